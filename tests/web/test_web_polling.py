"""However many pages are open, all of them together ask about as often; each is told how long to wait."""

from __future__ import annotations

import heapq
import re

import httpx
import pytest
from trio.testing import MockClock
from visiting import HERE, visiting

from trioworkers import App, Shard
from trioworkers.web import asgi
from trioworkers.web import polling as module
from trioworkers.web.polling import Polling


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> MockClock:
    found = MockClock()
    monkeypatch.setattr(module.trio, "current_time", found.current_time)
    return found


def asked(polling: Polling, clock: MockClock, tabs: int, for_s: float) -> list[tuple[float, int]]:
    """When somebody asks, and what each is told: tabs that are opened within three seconds."""
    begin = clock.current_time()
    due = [begin + 3.0 * number / tabs for number in range(tabs)]
    found = []
    while due[0] < begin + for_s:
        at = heapq.heappop(due)
        clock.jump(at - clock.current_time())
        found.append((at - begin, polling.asked()))
        heapq.heappush(due, at + found[-1][1])
    return found


@pytest.mark.parametrize(("tabs", "wait_s"), [(1, 3), (10, 3), (55, 3), (500, 25), (1000, 50)])
def test_pages_ask_every_three_seconds_and_many_less_often(clock: MockClock, tabs: int, wait_s: int):
    found = [each for each in asked(Polling(), clock, tabs, 1800) if each[0] > 300]
    assert len(found) / 1500 == pytest.approx(min(tabs / 3, 20), rel=0.2)
    assert {told for _, told in found} <= set(range(wait_s - wait_s // 2, wait_s * 2 + 1))


def test_ten_thousand_wait_a_minute_at_most_and_when_they_are_gone_one_is_quick_again(clock: MockClock):
    polling = Polling()
    assert max(told for _, told in asked(polling, clock, 10_000, 600)) == 60
    clock.jump(180)
    assert polling.asked() == 3


async def test_each_live_page_is_told(redis_url: str, monkeypatch: pytest.MonkeyPatch):
    def told(answer: httpx.Response) -> list[str]:
        return re.findall(r'data-live="(\d+)"', answer.text)

    monkeypatch.setattr(module, "_AS_LONG", 1)
    monkeypatch.setattr(module, "ASKED_A_SECOND", 0)
    sharded = App(shards={"a": Shard(redis_url, namespace="a"), "b": Shard(redis_url)})
    for app, pages in ((asgi(redis_url), ("/", "/queues")), (asgi(sharded), ("/", "/queues", "/shards/~a/queues"))):
        async with visiting(app, headers=HERE) as visitor:
            answers = [told(await visitor.get(page)) for page in pages]
            assert answers == [[str(4 + number)] for number in range(len(pages))]
            assert told(await visitor.get("/dead")) == []
