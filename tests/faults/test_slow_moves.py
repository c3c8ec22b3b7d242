"""What a slow way to Redis can't carry there or back: Redis moves it by itself, and the others come through."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from proxy import Proxy
from servers import Server

from trioworkers import Unavailable
from trioworkers.broker import too_slow
from trioworkers.broker.contract import Holder
from trioworkers.broker.moves import RedisBroker
from trioworkers.broker.redis.connection import connect
from trioworkers.broker.redis.link import Link
from trioworkers.engine.maintenance import Promoter, Reclaimer
from trioworkers.settings import Settings
from trioworkers.size_guard import SizeGuard
from trioworkers.wire.keys import Keys

OF_THE_DEAD = "queue:q:dead:inprogress"
LARGE = b'{"queue":"q","jid":"large","class":"A","args":["' + b"x" * 4_000_000 + b'"]}'
SMALL = [b'{"queue":"q","jid":"%d","class":"A","args":[]}' % n for n in range(3)]
LEGAL = SizeGuard(Settings(max_payload_bytes=10_000_000))


async def until(condition: Callable[[], object], call: Callable[[], Awaitable[object]]) -> int:
    """Call until the condition holds; how often it failed."""
    failed = 0
    with trio.fail_after(240):
        while not condition():
            try:
                await call()
            except Unavailable:
                failed += 1
    return failed


@pytest.mark.slow
@pytest.mark.parametrize("is_slow", ["both ways", "there"])
@pytest.mark.parametrize("what", ["schedule", "a dead worker's"])
async def test_what_cannot_pass_is_moved_as_it_came_and_the_others_come_through(
    shared_server: Server, redis_url: str, monkeypatch: pytest.MonkeyPatch, what: str, is_slow: str
):
    """A line that carries 2 MB in the time that a call may take, and a legal payload of 4 MB among small ones."""
    monkeypatch.setattr(too_slow, "ALL_THE_TIME_S", 3.0)
    proxy = Proxy(int(shared_server.port))
    place = OF_THE_DEAD if what.startswith("a dead") else what
    for number, payload in enumerate([SMALL[0], LARGE, *SMALL[1:]]):
        shared_server.command(*(("LPUSH", place) if place == OF_THE_DEAD else ("ZADD", place, number + 1)), payload)
    try:
        async with connect(proxy.url, Link(proxy.url), reply_timeout_s=0.4) as connection:
            owner = RedisBroker(connection, Keys(), Holder("owner", "lease of owner", 30_000), guard=LEGAL)
            reclaimer = Reclaimer(owner, Link("here"), lease_s=1, beat_s=1)
            promoter = Promoter(owner)
            proxy.bandwidth = 5e5
            proxy.only_requests = is_slow == "there"
            failed = await until(
                lambda: shared_server.command("EXISTS", place) == 0,
                (lambda: reclaimer.reclaim("dead", "q")) if place == OF_THE_DEAD else promoter.promote,
            )
    finally:
        proxy.close()
    assert failed >= 2
    queued = shared_server.command("LRANGE", "queue:q", 0, -1)
    assert isinstance(queued, list)
    assert [each for each in queued if len(each) > 1000] == [LARGE.decode()]
    small = [each for each in queued if len(each) < 1000]
    assert sorted(each.partition('"jid":"')[2][:1] for each in small) == ["0", "1", "2"]
    assert shared_server.command("EXISTS", "dead") == 0
