"""A Redis user that may touch nothing outside the namespace is enough for all that workers, clients and commands do."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
import trio
from servers import Server

from trioworkers import App, Bury, Client, Context, FleetLimit, Job
from trioworkers.broker.people.diagnosis import diagnose
from trioworkers.broker.people.fleet_control import FleetControl
from trioworkers.broker.people.inspection import Inspector
from trioworkers.broker.people.operator_actions import OperatorActions, Push, ToDead
from trioworkers.broker.redis.connection import connect
from trioworkers.broker.redis.link import Link
from trioworkers.wire.keys import Keys
from trioworkers.wire.places import Location

RULES = "~prod:* &prod:* +@all -@admin -@dangerous +info +config|get +client|id +client|unblock"
"""As docs/cli.md has them, but for the keys."""


@pytest.fixture
def url(server: Server) -> str:
    server.command("ACL", "SETUSER", "worker", "on", ">pw", *RULES.split())
    server.command("ACL", "LOG", "RESET")
    return server.url.replace("//", "//worker:pw@")


def payload(number: int) -> str:
    return json.dumps({"class": "A", "args": [number], "jid": f"jid{number}", "queue": "q"})


def denied(server: Server) -> list[object]:
    """What Redis refused; it keeps account by itself. A worker on `resque:prod` looks whether Ruby's keys of that name are others, if it may."""
    log = server.command("ACL", "LOG")
    assert isinstance(log, list)
    return [entry for entry in log if "resque:prod:queues" not in entry]


@pytest.mark.parametrize("dialect", ["sidekiq:prod", "resque:prod", "goworkers:prod"])
async def test_worker_and_client_stay_inside(server: Server, url: str, dialect: str):
    app = App(url, namespace="prod", dialect=dialect, lease=1.0)
    ends = trio.Event()

    @app.handler("q", limit=FleetLimit("crm", concurrency=1))
    async def limited(ctx: Context) -> None:
        ctx.enqueue(last.job())

    @app.handler("q", retry=1)
    async def fails(ctx: Context) -> None:
        raise ValueError

    @app.handler("q")
    async def buried(ctx: Context) -> None:
        raise Bury

    @app.handler("q", keep_result=60)
    async def last(ctx: Context) -> int:
        ends.set()
        return 1

    async with Client(url, namespace="prod", dialect=dialect) as client, trio.open_nursery() as nursery:
        await nursery.start(app.serve)
        await client.enqueue(limited.job(), limited.job(), fails.job(), buried.job(), Job("q", "Unknown", []))
        await client.schedule(timedelta(milliseconds=100), last.job())
        (kept,) = await client.enqueue(last.job())
        assert await client.result(kept, timeout=60) == 1
        await ends.wait()
        await trio.sleep(1.5)  # heartbeats, promotion, upkeep
        nursery.cancel_scope.cancel()
    assert denied(server) == []


async def test_commands_stay_inside(server: Server, url: str):
    keys = Keys("prod")
    server.command("SADD", "prod:queues", "q")
    server.command("LPUSH", "prod:queue:q", *[payload(n) for n in range(4)])
    server.command("ZADD", "prod:retry", 1, payload(10), 2, payload(11))
    async with connect(url, Link("")) as connection:
        actions, inspector, fleet = (
            OperatorActions(connection, keys),
            Inspector(connection, keys),
            FleetControl(connection, keys),
        )
        assert [finding.text async for finding in diagnose(connection, keys) if finding.level == "problem"] == []
        found = [entry async for entry in inspector.find("jid10")]
        await actions.move(Location("retry"), found[0], ToDead())
        async for _ in actions.sweep(Location("queue", "q"), lambda entry: Push("other", entry.payload)):
            pass
        await actions.restore(Location("queue", "q"), found, "1")
        await actions.restore(Location("retry"), found, "1")
        await actions.purge("other")
        await fleet.pause(["q"], ["A"])
        assert (await fleet.paused()).queues == {"q"}
        await fleet.signal("host:1:x", "TSTP")
        assert (await inspector.totals()).sets["dead"] == 1
    assert denied(server) == []


async def test_doctor_tells_of_keys_of_ours_that_are_forbidden(server: Server):
    allowed = [
        f"~prod:{name}"
        for name in ("queue*", "retry", "schedule", "dead", "processes", "paused", "stat:*", "tw:lease:*")
    ]
    server.command("ACL", "SETUSER", "worker", "on", ">pw", *allowed, "~prod:doctor:*", "+@all")
    async with connect(server.url.replace("//", "//worker:pw@"), Link("")) as connection:
        (finding,) = [each async for each in diagnose(connection, Keys("prod")) if each.check == "permissions"]
    assert finding.level == "problem"
    for kind in ("prod:tw:crashes", "prod:tw:settled:PROCESS", "prod:tw:result:JID"):
        assert f"keys like {kind}" in finding.text
    assert "keys like prod:tw:lease" not in finding.text
