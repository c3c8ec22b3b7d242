"""Why jobs are late, on the first page: who fetches, whether slots are busy, which hosts are paused; and the page of hosts."""

from __future__ import annotations

import math
import time

import httpx
import pytest
import trio
from servers import Server
from visiting import HERE, payload, visiting

from trioworkers import App, Breaker, Client, Context, Http, Limit
from trioworkers.broker.people.contents import QueueState
from trioworkers.broker.people.inspection import Totals
from trioworkers.web import asgi
from trioworkers.web.pages.problems import MOST, problems
from trioworkers.web.pages.snapshot import Snapshot
from trioworkers.wire.hosts import MOST_HOSTS, HostState, decode_hosts, encode_hosts
from trioworkers.wire.process_records import Process, decode_process

NOTHING = Totals(processed=0, failed=0, enqueued=9, sets={}, processed_today=0, failed_today=0)


def process(**fields: object) -> Process:
    plain = decode_process("h:1:x", {})
    values: dict[str, object] = {"process_id": "w1", "is_ours": True, "queues": {"q": 5}, "beat_s": 1000.0}
    return Process(
        **{**{name: getattr(plain, name) for name in plain.__slots__ if name != "__weakref__"}, **values, **fields}
    )


def said(queue: QueueState, *processes: Process) -> str:
    return "; ".join(text for _, text in problems(Snapshot(1000.0, NOTHING, [queue], processes, ())))


LATE = QueueState("q", 600, 900.0, paused=False)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"busy_in": {"q": 5}, "rates": {"q": 2.0}}, "all of its 5 slots are busy; at 2 a second its 600 jobs take 5m"),
        ({"busy_in": {"q": 5}}, "all of its 5 slots are busy, and none of its jobs has ended lately"),
        ({"busy_in": {"other": 5}}, "though 5 of its 5 slots are free: is there a limit?"),
        ({"is_ours": False, "busy": 5}, "what is next in q has waited for 15m00s"),
        ({"quiet": True}, "600 jobs in q, and nobody fetches from there: one has waited for 15m00s"),
    ],
)
def test_what_is_late_says_why(fields: dict[str, object], why: str):
    assert why in said(LATE, process(**fields))
    assert said(LATE) == "no process runs, and 9 jobs wait: one has waited for 15m00s"


def test_paused_hosts_are_said_once_for_all_workers():
    state = HostState("crm.example", failures=20, paused_s=5.0, failure="status 503")
    text = said(QueueState("q", 0, None, paused=False), process(hosts=[state]), process(hosts=[state]))
    assert text == "calls to crm.example are paused in 2 workers, the last failed with status 503"


def test_a_thousand_problems_are_a_screenful():
    many = [process(process_id=f"w{number}", quiet=True) for number in range(1000)]
    found = problems(Snapshot(1000.0, NOTHING, [], many, ()))
    assert len(found) == MOST + 1
    assert found[-1][1].startswith("970 more")


def test_hosts_go_through_redis_and_what_others_wrote_is_nothing():
    states = [
        HostState("b", 1, 2, 3, 4, math.inf, "x" * 1000),
        HostState("a", 5),
        *(HostState(f"h{number}", 1) for number in range(2 * MOST_HOSTS)),
    ]
    found = decode_hosts(encode_hosts(states))
    assert len(found) == MOST_HOSTS
    assert found[:2] == (HostState("b", 1, 2, 3, 4, math.inf, "x" * 100), HostState("a", 5))
    for text in (b"", b"{", b"[[1]]", b'[["a",-1,-1,-1,-1,1e400,""]]', b"[" * 100_000):
        assert decode_hosts(text) == ()


async def test_a_paused_host_is_on_its_page_and_on_the_first_page(redis_url: str, shared_server: Server):
    """A real worker, a port at which nobody listens, and one host at which calls wait for their turn."""
    calls = Http(limits={"localhost": Limit(concurrency=1)}, breaker=Breaker(failures=2, pause=60, longest_pause=60))
    app = App(redis_url, process_id="w1", lease=1, http=calls)
    app.queue("q")

    @app.handler("q", "Call", retry=0)
    async def call(ctx: Context, url: str) -> None:
        await ctx.http.get(url)

    async with trio.open_nursery() as nursery:
        worker = await nursery.start(app.serve)
        listener = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener[0].socket.getsockname()[1]  # accepts by itself, and never answers
        async with Client(redis_url) as client:
            await client.enqueue(*(call.job("http://127.0.0.1:1/") for _ in range(3)))
            await client.enqueue(*(call.job(f"http://localhost:{port}/") for _ in range(3)))
        async with visiting(asgi(redis_url), headers=HERE) as visitor:
            with trio.fail_after(30):
                while {state.host for state in worker.hosts if state.waiting or state.paused_s} != {
                    "127.0.0.1",
                    "localhost",
                }:
                    await trio.sleep(0.02)
                text = (await visitor.get("/hosts")).text
                while "paused in 1 of 1" not in text or "2 waiting" not in text:
                    await trio.sleep(0.1)
                    text = (await visitor.get("/hosts")).text
            first = (await visitor.get("/")).text
        worker.stop(0)
        await listener[0].aclose()
    assert "1 of 1 under way, 2 waiting" in text
    assert "2 calls in a row failed, the last with ConnectError" in text
    assert "calls to 127.0.0.1 are paused in one worker, the last failed with ConnectError" in first


async def test_nobody_works_here(visitor: httpx.AsyncClient, shared_server: Server):
    shared_server.command("SADD", "queues", "q")
    shared_server.command("LPUSH", "queue:q", payload(1, enqueued_at=time.time()))
    assert "no process runs, and 1 job waits" in (await visitor.get("/")).text
