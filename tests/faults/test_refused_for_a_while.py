"""A Redis that is there and refuses for a while: it says nothing of what the way to it carries."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import trio
from command_proxy import CommandProxy
from servers import Server

from trioworkers import Job
from trioworkers.broker.contract import Holder
from trioworkers.broker.intake import RedisIntake
from trioworkers.broker.moves import RedisBroker
from trioworkers.broker.redis import connection as connecting
from trioworkers.broker.redis.connection import connect, retrying
from trioworkers.broker.redis.link import Link
from trioworkers.broker.redis.pace import MOST_BYTES
from trioworkers.broker.too_slow import ENOUGH
from trioworkers.engine import settler
from trioworkers.engine.delivery import RUNNING, Delivery
from trioworkers.outcome import Acknowledge, Outcome, Retry
from trioworkers.send import Send
from trioworkers.wire.keys import Keys

PAYLOAD = b'{"jid":"a","class":"A","args":[],"queue":"q"}'
LARGE = "y" * 200_000
TIMES = 3 * ENOUGH
REFUSALS = {
    "disk": "MISCONF Errors writing to the AOF file: No space left on device",
    "full": "OOM command not allowed when used memory > 'maxmemory'.",
    "busy": "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "loading": "LOADING Redis is loading the dataset in memory",
    "replica": "READONLY You can't write against a read only replica.",
    "cluster": "CLUSTERDOWN The cluster is down",
}


@pytest.fixture
def proxy(shared_server: Server, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[CommandProxy]:
    for module in (settler, connecting):
        monkeypatch.setattr(module, "backoff", lambda *_: iter([0.001] * 1000))
    proxy = CommandProxy(shared_server.port)
    yield proxy
    proxy.close()


@pytest.mark.parametrize("why", REFUSALS)
async def test_job_that_has_succeeded_stays_so_however_large_what_it_enqueues_is(
    proxy: CommandProxy, shared_server: Server, why: str
):
    def fails(problem: str) -> Outcome:
        failures.append(problem)
        return Retry(PAYLOAD, 5)

    failures: list[str] = []
    proxy.harm = lambda kind, number: REFUSALS[why] if kind == "EVALSHA settle" and number <= TIMES else None
    shared_server.command("LPUSH", "queue:q:owner:inprogress", PAYLOAD)
    async with connect(proxy.url, Link(proxy.url)) as connection, trio.open_nursery() as nursery:
        owner = RedisBroker(connection, Keys(), Holder("owner", "lease of owner", 30_000))
        desk = settler.Settler(owner, lambda _: None)
        delivery = Delivery("q", PAYLOAD, 0.0)
        delivery.become(RUNNING)
        desk.submit(delivery, Acknowledge([Send(Job("next", "B", [LARGE]))], len(LARGE), None, fails))
        nursery.start_soon(desk.run)
        await desk.flushed()
        nursery.cancel_scope.cancel()
        assert connection.link.pace.bytes == MOST_BYTES
    assert len(proxy.done) == TIMES
    assert failures == []
    assert shared_server.command("LLEN", "queue:next") == 1
    assert shared_server.command("EXISTS", "queue:q:owner:inprogress", "retry") == 0


@pytest.mark.parametrize("why", REFUSALS)
async def test_fetch_takes_as_much_as_ever_afterwards(proxy: CommandProxy, shared_server: Server, why: str):
    proxy.harm = lambda kind, number: REFUSALS[why] if kind == "EVALSHA fetch" and number <= TIMES else None
    shared_server.command("LPUSH", "queue:q", *[json.dumps({"args": [LARGE, number]}) for number in range(3)])
    async with connect(proxy.url, Link(proxy.url)) as connection:
        owner = RedisBroker(connection, Keys(), Holder("owner", "lease of owner", 30_000))
        intake = RedisIntake(owner, connection, "q", 1.0)
        fetched = await retrying(lambda: intake.fetch(3))
        assert connection.link.pace.bytes == MOST_BYTES
    assert len(proxy.done) == TIMES
    assert len(fetched.payloads) == 3
