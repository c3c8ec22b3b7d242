"""Due jobs that are none of ours go where Sidekiq's own poller puts them: the same jobs, once through Ruby and once through us."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import trio
from servers import Server
from test_ruby import pytestmark as needs_sidekiq

from trioworkers.broker.contract import Holder
from trioworkers.broker.moves import RedisBroker
from trioworkers.broker.redis.connection import connect
from trioworkers.broker.redis.link import Link
from trioworkers.engine.maintenance import Promoter
from trioworkers.wire.keys import Keys

pytestmark = needs_sidekiq

DUE: list[dict[str, Any]] = [
    {"queue": "low prio"},
    {"queue": "über"},
    {"queue": "x" * 300},
    {"queue": "a/b?c"},
    {"queue": 42},
    {"queue": "low", "retry": "5"},
    {"queue": "low", "retry": 2.0},
    {"queue": "low", "retry": "true"},
    {"queue": "low", "jid": 42},
    {"queue": "low", "jid": ""},
    {"queue": "low", "jid": "j" * 300},
    {"queue": "low", "retry_queue": "low prio"},
    {"queue": "low", "retry_count": "2"},
    {"queue": "low", "retry": 10**400, "retry_count": 10**400},
    {"queue": "low", "created_at": 10**400, "failed_at": -(10**400)},
    {"queue": "low", "retry_for": 5.5, "backtrace": "all", "dead": "no"},
    {},
]
WHAT_THE_PUSH_WRITES = {"queue", "enqueued_at"}


def due() -> list[str]:
    jobs = [{"class": "Odd", "args": [n], "jid": "a" * 24, "retry": True} | more for n, more in enumerate(DUE)]
    return [json.dumps({**job, "created_at": job.get("created_at", 1.5)}, ensure_ascii=False) for job in jobs]


def promoted(server: Server) -> dict[int, tuple[str, dict[str, Any]]]:
    """By their argument: the queue in which each lies, and its fields."""
    assert (
        server.command("ZCARD", "dead") == server.command("ZCARD", "schedule") == server.command("ZCARD", "retry") == 0
    )
    names = server.command("SMEMBERS", "queues")
    assert isinstance(names, list)
    found = {}
    for name in names:
        for text in server.command("LRANGE", f"queue:{name}", 0, -1):  # type: ignore[union-attr]
            job = json.loads(str(text))
            found[job["args"][0]] = (name, job)
    return found


def promote_with_ruby(server: Server) -> None:
    script = str(Path(__file__).parent / "promote.rb")
    environment = {**os.environ, "REDIS_URL": server.url}
    subprocess.run(["ruby", script], env=environment, check=True, capture_output=True)


def promote_ourselves(server: Server) -> None:
    async def promote() -> None:
        async with connect(server.url, Link(server.url)) as connection:
            await Promoter(RedisBroker(connection, Keys(), Holder("p", "lease", 30_000))).promote()

    trio.run(promote)


@pytest.mark.parametrize("place", ["schedule", "retry"])
def test_due_jobs_of_others_go_where_ruby_puts_them(server: Server, place: str):
    results = []
    for promote in (promote_with_ruby, promote_ourselves):
        server.command("FLUSHALL")
        server.command("ZADD", place, *(word for payload in due() for word in (1, payload)))
        promote(server)
        results.append(promoted(server))
    rubys, ours = results
    assert len(ours) == len(DUE)
    for n, (queue, job) in ours.items():
        theirs_queue, theirs = rubys[n]
        assert queue == theirs_queue
        rest = {name: value for name, value in job.items() if name not in WHAT_THE_PUSH_WRITES}
        assert rest == {name: value for name, value in theirs.items() if name not in WHAT_THE_PUSH_WRITES}
        assert abs(job["enqueued_at"] - theirs["enqueued_at"]) < 600


@pytest.mark.parametrize("queue", ["", [], ["low"], {"a": 1}], ids=json.dumps)
def test_what_names_no_queue_is_buried_as_it_came(server: Server, queue: object):
    """Ruby would put a list into a queue that is called as Ruby writes lists, which nobody serves: there it is lost. In `dead` it is seen."""
    payload = json.dumps({"class": "Odd", "args": [1.10], "jid": "a" * 24, "queue": queue, "retry": "5"})
    server.command("ZADD", "schedule", 1, payload)
    promote_ourselves(server)
    assert server.command("ZRANGE", "dead", 0, -1) == [payload]
    assert server.command("EXISTS", "queues", "schedule") == 0
