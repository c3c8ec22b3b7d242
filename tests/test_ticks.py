from __future__ import annotations

import math

import trio
from trio.testing import MockClock

from trioworkers.ticks import next_tick


async def test_the_next_tick_is_a_multiple_and_still_to_come(mock_clock: MockClock):
    for _ in range(50):
        tick = next_tick(2.5)
        assert math.isclose(tick % 2.5, 0.0, abs_tol=1e-6) or math.isclose(tick % 2.5, 2.5, abs_tol=1e-6)
        assert trio.current_time() < tick <= trio.current_time() + 2.5
        mock_clock.jump(0.7)


async def test_who_comes_round_twice_as_often_is_there_each_time_that_the_other_is(autojump_clock: MockClock):
    often, seldom = [], []

    async def note(interval_s: float, moments: list[float]) -> None:
        while True:
            await trio.sleep_until(next_tick(interval_s))
            moments.append(trio.current_time())
            await trio.sleep(0.3)  # what it does takes a while, and doesn't put it out of step

    with trio.move_on_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(note, 2.5, often)
            await trio.sleep(1.1)
            nursery.start_soon(note, 5.0, seldom)
    assert len(seldom) >= 11
    assert all(any(math.isclose(one, other) for other in often) for one in seldom)
