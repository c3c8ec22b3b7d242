"""The states of a delivery: which follow which, and what it says of itself in each."""

from __future__ import annotations

from itertools import pairwise, product

import pytest
import trio

from trioworkers.engine.delivery import ALLOWED, Checkpoints, Delivery, State
from trioworkers.outcome import REQUEUE, Checkpoint, Discard, Requeue


def delivery(state: State = State.FETCHED) -> Delivery:
    return Delivery("q", b"{}", 0.0, state=state)


@pytest.mark.parametrize(("before", "after"), [*product(State, State)])
def test_only_what_the_table_allows_follows(before: State, after: State):
    one = delivery(before)
    if after in ALLOWED[before]:
        one.become(after)
        assert one.state is after
    else:
        with pytest.raises(RuntimeError, match=f"{before.name} does not become {after.name}"):
            one.become(after)
        assert one.state is before


@pytest.mark.parametrize(
    "way",
    [
        (State.FETCHED, State.RUNNING, State.SETTLING, State.SETTLED),
        (State.FETCHED, State.SETTLING, State.SETTLED),
        (State.FETCHED, State.RUNNING, State.LOST, State.SETTLED),
    ],
)
def test_every_way_ends_with_a_slot_that_is_free(way: tuple[State, ...]):
    assert all(after in ALLOWED[before] for before, after in pairwise(way))
    assert ALLOWED[way[-1]] == ()


async def test_cancelled_before_its_start_it_starts_cancelled():
    one = delivery()
    one.cancel()
    with one.start(trio.current_time() + 10) as scope:
        await trio.sleep_forever()
    assert scope.cancelled_caught


def test_operator_decides_what_becomes_of_what_is_cancelled():
    one = delivery()
    assert one.when_stopped() is REQUEUE
    one.cancel(lambda _: Discard())
    one.cancel()  # the worker's stop does not take that back
    assert one.when_stopped() == Discard()


def test_progress_goes_along_with_what_is_stopped():
    one = delivery()
    one.checkpoints = Checkpoints(lambda: b"progressed")
    assert one.when_stopped() == Requeue(b"progressed")


async def test_checkpoint_is_written_once_for_all_who_wait():
    checkpoints = Checkpoints(lambda: b"news", wanted=(wanted := trio.Event()))
    assert checkpoints.begin(b"{}") == Checkpoint(b"news")
    assert checkpoints.begin(b"{}") is None
    assert not wanted.is_set()
    assert checkpoints.end(ok=True) == b"news"
    assert wanted.is_set()
