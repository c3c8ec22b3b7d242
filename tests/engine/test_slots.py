"""Slots: none is lost, none is lent twice, and each draw has its turn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from trioworkers.engine.slots import Draw, Order, Slots


def test_no_more_are_taken_than_are_free():
    slots = Slots(3)
    draw = slots.draw()
    assert [draw.take(2), draw.take(2), draw.take(2)] == [2, 1, 0]
    draw.give_back(2)
    assert (slots.free, draw.take(5)) == (2, 2)


async def test_who_waits_hears_of_a_slot_and_of_a_wake(autojump_clock: object, nursery: trio.Nursery):
    slots = Slots(1)
    draw = slots.draw()
    draw.take(1)
    heard = []

    async def wait() -> None:
        while True:
            await draw.wait()
            heard.append(slots.free)

    nursery.start_soon(wait)
    await trio.testing.wait_all_tasks_blocked()
    draw.wake()
    await trio.testing.wait_all_tasks_blocked()
    draw.give_back()
    await trio.testing.wait_all_tasks_blocked()
    assert heard == [0, 1]


async def run_full(slots: Slots, draws: Sequence[Draw], rounds: int, nursery: trio.Nursery) -> Counter[int]:
    """Each wants as many as it can have, all the time; slots come back one by one. How many each got after the first fill."""
    got: Counter[int] = Counter()
    busy: list[int] = []

    async def intake(number: int) -> None:
        while True:
            taken = draws[number].take(slots.count)
            got[number] += taken
            busy.extend([number] * taken)
            await draws[number].wait()

    for number in range(len(draws)):
        nursery.start_soon(intake, number)
        await trio.testing.wait_all_tasks_blocked()
    got.clear()
    for _ in range(rounds):
        draws[busy.pop(0)].give_back()
        await trio.testing.wait_all_tasks_blocked()
    nursery.cancel_scope.cancel()
    return got


@pytest.mark.parametrize("weights", [(6, 3, 1), (1, 1, 1), (5, 1), (100, 1)], ids=str)
async def test_weights_are_exact_under_full_load(weights: tuple[int, ...]):
    slots = Slots(7)
    draws = [slots.draw(weight) for weight in weights]
    async with trio.open_nursery() as nursery:
        got = await run_full(slots, draws, 3 * sum(weights), nursery)
    assert [got[number] for number in range(len(weights))] == [3 * weight for weight in weights]


async def test_strict_order_starves_as_promised():
    slots = Slots(3, "strict")
    draws = [slots.draw() for _ in range(3)]
    async with trio.open_nursery() as nursery:
        got = await run_full(slots, draws, 20, nursery)
    assert got == {0: 20}


async def test_those_of_one_rank_take_turns_in_a_strict_order():
    slots = Slots(3, "strict")
    draws = [slots.draw(rank=rank) for rank in (0, 0, 1)]
    async with trio.open_nursery() as nursery:
        got = await run_full(slots, draws, 20, nursery)
    assert got == {0: 10, 1: 10}


async def test_many_slots_go_to_one_after_the_other_in_portions(nursery: trio.Nursery):
    slots = Slots(1000)
    draws = [slots.draw() for _ in range(4)]
    draws[0].take(1000)
    for draw in draws:
        nursery.start_soon(draw.wait)
    await trio.testing.wait_all_tasks_blocked()
    got = []
    for _ in range(8):
        draws[0].give_back(100)
        got.append([draw.promised for draw in draws])
    assert got[0] == [100, 0, 0, 0]
    assert got[3] == [100] * 4
    assert got[7] == [200] * 4


@pytest.mark.parametrize("order", ["weighted", "strict"])
async def test_batch_that_comes_back_at_once_is_shared_by_the_same_order(order: Order, nursery: trio.Nursery):
    slots = Slots(10, order)
    draws = [slots.draw(weight) for weight in (6, 3, 1)]
    draws[0].take(10)
    for draw in draws:
        nursery.start_soon(draw.wait)
    await trio.testing.wait_all_tasks_blocked()
    draws[0].give_back(10)
    assert [draw.take(10) for draw in draws] == ([6, 3, 1] if order == "weighted" else [10, 0, 0])


async def test_what_is_promised_to_one_that_leaves_is_for_the_others(nursery: trio.Nursery):
    slots = Slots(2)
    leaves, stays = slots.draw(5), slots.draw(1)
    leaves.take(2)
    nursery.start_soon(leaves.wait)
    await trio.testing.wait_all_tasks_blocked()
    leaves.give_back(1)
    nursery.start_soon(stays.wait)
    await trio.testing.wait_all_tasks_blocked()
    assert stays.take(2) == 0
    leaves.leave()
    assert (stays.promised, stays.take(2)) == (1, 1)


async def test_who_does_not_wait_is_owed_nothing(nursery: trio.Nursery):
    slots = Slots(4)
    idle, busy = slots.draw(1), slots.draw(1)
    busy.take(4)
    nursery.start_soon(busy.wait)
    await trio.testing.wait_all_tasks_blocked()
    for _ in range(100):  # all of them for the one that wants them
        busy.give_back()
        await trio.testing.wait_all_tasks_blocked()
        assert busy.take(4) == 1
        nursery.start_soon(busy.wait)
        await trio.testing.wait_all_tasks_blocked()
    nursery.start_soon(idle.wait)
    await trio.testing.wait_all_tasks_blocked()
    busy.give_back(4)
    assert (idle.take(4), busy.take(4)) == (2, 2)


@pytest.mark.parametrize("weight", [0, -1, 1.5, True, "2", None])
def test_weight_that_is_none_is_refused(weight: object):
    with pytest.raises(ValueError, match="a weight is a whole number"):
        Slots(1).draw(weight)  # type: ignore[arg-type]


@given(
    st.integers(1, 8),
    st.lists(st.integers(1, 5), min_size=1, max_size=4),
    st.sampled_from(["weighted", "strict"]),
    st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.integers(1, 8))),
)
def test_none_is_lost_and_none_is_lent_twice(
    count: int, weights: list[int], order: Order, steps: list[tuple[int, bool, int]]
):
    slots = Slots(count, order)
    draws = [slots.draw(weight) for weight in weights]
    held: Counter[int] = Counter()
    for which, takes, number in steps:
        who = which % len(draws)
        if takes:
            held[who] += draws[who].take(number)
        else:
            back = min(number, held[who])
            held[who] -= back
            draws[who].give_back(back)
        assert held.total() + slots.free == count
        assert slots.free >= 0
