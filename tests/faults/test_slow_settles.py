"""Outcomes that a slow way to Redis can't carry: an end is put to trying them again."""

from __future__ import annotations

import pytest
import trio
from proxy import Proxy
from servers import Server

from trioworkers import Job
from trioworkers.broker import too_slow
from trioworkers.broker.contract import Holder
from trioworkers.broker.moves import RedisBroker
from trioworkers.broker.redis.connection import connect
from trioworkers.broker.redis.link import Link
from trioworkers.engine import settler
from trioworkers.engine.delivery import RUNNING, Delivery
from trioworkers.outcome import ACKNOWLEDGE, Acknowledge, Retry
from trioworkers.send import Send
from trioworkers.wire.keys import Keys

LIST = "queue:q:owner:inprogress"


def payload(jid: str, size: int) -> bytes:
    return b'{"jid":"%s","args":["%s"]}' % (jid.encode(), b"x" * size)


@pytest.mark.slow
async def test_group_that_cannot_pass_goes_one_by_one_and_what_never_can_becomes_its_jobs_failure(
    shared_server: Server, redis_url: str, monkeypatch: pytest.MonkeyPatch
):
    """A line that carries 5 MB in the time that a call may take, and outcomes of 10 MB: of a large payload, and with a large follow-up."""
    monkeypatch.setattr(too_slow, "ALL_THE_TIME_S", 4.5)
    monkeypatch.setattr(settler, "backoff", lambda *_: iter([0.01] * 1000))
    large, small = [payload("a", 10_000_000), payload("b", 10)], [payload("c", 10)]
    amended = large[0][:-1] + b',"retry_count":1}'
    follow_up = Acknowledge(
        [Send(Job("next", "B", ["y" * 10_000_000]))], 10_000_000, None, lambda _: Retry(small[0], 5)
    )
    proxy = Proxy(int(shared_server.port))
    try:
        async with connect(proxy.url, Link(proxy.url), reply_timeout_s=0.5) as connection:
            owner = RedisBroker(connection, Keys(), Holder("owner", "lease of owner", 30_000))
            shared_server.command("LPUSH", LIST, *(each.decode() for each in (*large, *small)))
            ended: list[Delivery] = []
            deliveries = [Delivery("q", payload, 0.0) for payload in [*large, *small]]
            desk = settler.Settler(owner, ended.extend)
            for delivery, outcome in zip(deliveries, [Retry(amended, 5), ACKNOWLEDGE, follow_up], strict=True):
                delivery.become(RUNNING)
                desk.submit(delivery, outcome)
            proxy.bandwidth = 1e6
            with trio.fail_after(120):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(desk.run)
                    await desk.flushed()
                    nursery.cancel_scope.cancel()
    finally:
        proxy.close()
    assert {*ended} == {*deliveries}
    members = shared_server.command("ZRANGE", "retry", 0, -1)
    assert isinstance(members, list)
    assert sorted(members, key=len) == [small[0].decode(), amended.decode()]
    assert shared_server.command("EXISTS", LIST, "queue:next") == 0
