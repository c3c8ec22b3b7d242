"""What a worker knows of the next tick: when it must look at the entries, and when it need not."""

from __future__ import annotations

import math

import pytest
import trio
from trio.testing import MockClock

from trioworkers.broker.contract import Due
from trioworkers.broker.holds.ticks import DueEntry
from trioworkers.engine.coming_tick import LOOK_ANYWAY_S, ComingTick


class Redis:
    ahead_s = 1e9

    def now_s(self) -> float:
        return trio.current_time() + self.ahead_s


def look(coming: ComingTick, tick_in_s: float | None, *entries: DueEntry) -> bool:
    """Whether it was one at the entries, too."""
    looked = coming.begin()
    coming.end(Due([], [], None, entries=entries, tick_in_s=tick_in_s if looked else None))
    return looked


async def looks(coming: ComingTick, tick_in_s: float, every_s: float, count: int) -> list[bool]:
    found = []
    for _ in range(count):
        found.append(look(coming, tick_in_s))
        await trio.sleep(every_s)
    return found


async def test_looks_once_and_again_when_the_tick_is_there(autojump_clock: MockClock):
    coming = ComingTick(Redis().now_s)
    assert coming.in_s == math.inf
    assert await looks(coming, 6.0, 2.5, 3) == [True, False, False]
    assert coming.in_s == 0.0
    assert look(coming, 0.4)  # by Redis's clock it isn't there yet
    assert coming.in_s == pytest.approx(0.4)
    await trio.sleep(0.4)
    assert look(coming, 0.0, DueEntry(b"a", b"1", b""))
    assert coming.in_s == math.inf  # whoever takes it says when the next one is
    assert look(coming, math.inf)
    assert not look(coming, None)


async def test_looks_anyway_now_and_then(autojump_clock: MockClock):
    found = await looks(ComingTick(Redis().now_s), math.inf, 2.5, 50)
    assert found == [number % (LOOK_ANYWAY_S / 2.5) == 0 for number in range(50)]


async def test_looks_when_it_was_away_or_a_look_failed(autojump_clock: MockClock):
    coming = ComingTick(Redis().now_s)
    assert await looks(coming, 100.0, 1.0, 2) == [True, False]
    await trio.sleep(5)  # frozen, say: news may have come and gone
    assert await looks(coming, 94.0, 1.0, 2) == [True, False]
    coming.begin()  # Redis doesn't answer
    assert await looks(coming, 92.0, 1.0, 2) == [True, False]


async def test_look_that_took_so_long_that_news_may_have_come_and_gone_is_followed_by_another(
    autojump_clock: MockClock,
):
    coming = ComingTick(Redis().now_s)
    assert await looks(coming, 100.0, 1.0, 2) == [True, False]
    assert not coming.begin()
    await trio.sleep(20)
    coming.end(Due([], [], None))
    assert look(coming, 80.0)


async def test_looks_when_redis_tells_another_time(autojump_clock: MockClock):
    redis = Redis()
    coming = ComingTick(redis.now_s)
    assert await looks(coming, 100.0, 1.0, 2) == [True, False]
    redis.ahead_s += 0.03
    assert await looks(coming, 98.0, 1.0, 3) == [True, False, False]
    redis.ahead_s -= 50
    assert await looks(coming, 145.0, 1.0, 2) == [True, False]
