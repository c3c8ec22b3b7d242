"""A job that doesn't end when its time is over keeps its slot, which is said once."""

from __future__ import annotations

import json
import re

import pytest
import trio
from servers import Server

from trioworkers import App, Context, Job
from trioworkers.engine.delivery import RUNNING, SETTLING, Delivery
from trioworkers.engine.overdue import CLEAN_UP_S, Overdue
from trioworkers.wire.decode import decode


def delivery_of(jid: str, deadline: float) -> Delivery:
    payload = json.dumps({"class": "Late", "args": [], "jid": jid, "queue": "q"}).encode()
    delivery = Delivery("q", payload, 0.0)
    delivery.job = decode(payload, "q")
    delivery.start(deadline)
    return delivery


async def test_only_what_runs_a_while_after_its_time_is_told_and_that_once(caplog: pytest.LogCaptureFixture):
    late, cleaning, endless, ended = (
        delivery_of(jid, deadline)
        for jid, deadline in (("late", 5.0), ("cleaning", 6.0), ("endless", float("inf")), ("ended", 5.0))
    )
    ended.become(SETTLING)
    fetched = Delivery("q", b"{}", 0.0)
    overdue = Overdue()
    for _ in range(3):
        overdue.look([late, cleaning, endless, ended, fetched], 5.0 + CLEAN_UP_S)
    assert [record.getMessage() for record in caplog.records] == [
        "job late (Late) goes on 10 s after its time was over: it was cancelled, doesn't stop, and keeps its slot"
    ]
    assert late.state is RUNNING
    overdue.look([late, cleaning], 6.0 + CLEAN_UP_S)
    assert [record.getMessage().split()[1] for record in caplog.records] == ["late", "cleaning"]


async def test_worker_tells_of_a_job_that_its_timeout_does_not_end(
    redis_url: str, shared_server: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("trioworkers.engine.overdue.CLEAN_UP_S", 0.0)
    app = App(redis_url, shutdown_timeout=1, lease=5)
    told = trio.Event()

    @app.handler("q", timeout=0.05)
    async def shielded(ctx: Context) -> None:
        with trio.CancelScope(shield=True):
            await told.wait()

    async with trio.open_nursery() as nursery:
        await nursery.start(app.serve)
        async with app.client() as client:
            await client.enqueue(Job("q", "shielded", retry=False))
        while "goes on" not in caplog.text:
            await trio.sleep(0.05)
        told.set()
        nursery.cancel_scope.cancel()
    assert re.search(r"job \w+ \(shielded\) goes on \d+ s after its time was over", caplog.text)
