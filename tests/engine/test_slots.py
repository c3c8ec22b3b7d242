"""Slots: none is lost, none is lent twice."""

from __future__ import annotations

import trio
import trio.testing

from trioworkers.engine.slots import Slots


def test_no_more_are_taken_than_are_free():
    slots = Slots(3)
    assert [slots.take(2), slots.take(2), slots.take(2)] == [2, 1, 0]
    slots.give_back(2)
    assert (slots.free, slots.take(5)) == (2, 2)


async def test_all_who_wait_hear_of_a_slot_and_of_a_wake(autojump_clock: object, nursery: trio.Nursery):
    slots = Slots(1)
    slots.take(1)
    heard = []

    async def wait(name: str) -> None:
        while True:
            await slots.wait()
            heard.append((name, slots.free))

    nursery.start_soon(wait, "a")
    nursery.start_soon(wait, "b")
    await trio.testing.wait_all_tasks_blocked()
    slots.wake()
    await trio.testing.wait_all_tasks_blocked()
    slots.give_back()
    await trio.testing.wait_all_tasks_blocked()
    assert sorted(heard) == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
