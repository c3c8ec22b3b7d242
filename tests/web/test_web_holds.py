"""Pages and buttons for what jobs hold and belong to, with real workers' and clients' data."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import trio
from visiting import HERE, harmless_text, visiting

from trioworkers import App, Batch, Client, Context, FleetLimit, Job, Unique
from trioworkers.web import asgi
from trioworkers.web.pages.cron import became
from trioworkers.wire.entry import Entry
from trioworkers.wire.periodic import Run

NAME = "<i>\"crm'"


async def test_limits_locks_and_batches(redis_url: str, command: Callable[..., Any]):
    app = App(redis_url)
    app.queue("q", concurrency=5)
    entered = trio.Event()

    @app.handler("q", "Limited", limit=FleetLimit("crm", concurrency=1))
    async def limited(_: Context) -> None:
        entered.set()
        await trio.sleep_forever()

    @app.handler("q", "Alone", unique=Unique(by="customer"))
    async def alone(_: Context, customer: str) -> None: ...

    async with trio.open_nursery() as nursery, visiting(asgi(redis_url), headers=HERE) as visitor:
        async with Client(redis_url) as client:
            command("SADD", "paused", "waits")
            batch = Batch(NAME)
            for number in range(3):
                batch.add(Job("waits", "Member", [number], runs_here=True))
            await client.enqueue(batch)
            await client.enqueue(alone.job(NAME))
            before = await visitor.get("/locks")
            assert "Let go …" in before.text
            harmless_text(before.text)
            worker = await nursery.start(app.serve)
            await client.enqueue(limited.job(), limited.job())
        with trio.fail_after(30):
            await entered.wait()
            while "crm" not in (page := (await visitor.get("/limits?name=crm")).text) or "of queue q" not in page:
                await trio.sleep(0.05)
        assert '<h2 id="holders-title">Who holds it</h2>\n<p><a' in page
        await _close_and_open(visitor)
        await _cancel(visitor, batch.id)
        worker.stop(0.0)
    assert command("LLEN", "queue:waits") == 0


async def _close_and_open(visitor: httpx.AsyncClient) -> None:
    await press(visitor, "/do/limit", name="crm", how="close")
    assert "closed until somebody opens it" in (await visitor.get("/limits")).text
    await press(visitor, "/do/limit", name="crm", how="open")
    assert "closed" not in (await visitor.get("/limits?name=crm")).text
    assert "no limit is called nix" in await press(visitor, "/do/limit", name="nix", how="open")


async def _cancel(visitor: httpx.AsyncClient, batch: str) -> None:
    listed = (await visitor.get("/batches")).text
    harmless_text(listed)
    assert "0 of 3" in listed
    page = (await visitor.get(f"/batch?id={batch}")).text
    harmless_text(page)
    assert len(re.findall('class="jid"', page)) == 3
    asked = await visitor.post("/do/cancel-batch", data={"batch": batch, "back": "/batches"})
    assert "3 have not ended" in asked.text
    assert "3 waiting members deleted" in await press(visitor, "/do/cancel-batch", batch=batch, sure="1")


async def test_a_lock_is_let_go(visitor: httpx.AsyncClient, redis_url: str, command: Callable[..., Any]):
    app = App(redis_url)
    app.queue("q")

    @app.handler("q", "Alone", unique=Unique(by="customer"))
    async def alone(_: Context, customer: str) -> None: ...

    async with Client(redis_url) as client:
        await client.enqueue(alone.job("ada"))
    (lock,) = command("HKEYS", "tw:unique")
    asked = await visitor.post("/do/unlock", data={"lock": lock})
    assert "will be given back" in asked.text
    assert command("HLEN", "tw:unique") == 1
    assert "given back; job" in await press(visitor, "/do/unlock", lock=lock, sure="1")
    assert command("HLEN", "tw:unique") == 0


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (Entry("running", b"{}", "q", process_id="w1"), "running on w1"),
        (Entry("retry", b"{}"), "failed, waits for its retry"),
        (Entry("dead", b"{}"), "failed for good"),
        (Entry("parked", b"{}"), "waits in the parked set"),
        (None, "sent; in no queue or set now, and nobody noted an end"),
    ],
)
def test_what_is_said_of_a_run_whose_end_nobody_noted(entry: Entry | None, said: str):
    sent = Run("j", 1.0, 1.0, "sent", None)
    assert became({} if entry is None else {"j": entry}, sent) == said
    assert became(None, sent) == "sent"
    assert became({}, Run("j", 1.0, 1.0, "failed", 2.0)) == "failed"


async def test_periodic_jobs(visitor: httpx.AsyncClient, redis_url: str, command: Callable[..., Any]):
    async with Client(redis_url) as client:
        await client.periodic("nightly", "0 4 * * *", Job("q", NAME, [NAME]), tz="Europe/Berlin")
        await client.periodic("often", "@every 10s", Job("q", "Tick"))
    command("HSET", "tw:cron:broken", "definition", NAME)
    command("ZADD", "tw:cron", 5, "broken")
    for path in ("/cron", "/cron?name=nightly", "/cron?name=broken"):
        page = await visitor.get(path)
        assert page.status_code == 200
        harmless_text(page.text)
    assert "0 4 * * *" in (await visitor.get("/cron")).text
    assert "Europe/Berlin" in (await visitor.get("/cron?name=nightly")).text
    assert "sent" in await press(visitor, "/do/cron", name="nightly", what="run")
    assert command("LLEN", "queue:q") == 1
    assert "waits in queue q" in (await visitor.get("/cron?name=nightly")).text
    assert "nightly: paused" in await press(visitor, "/do/cron", name="nightly", what="pause")
    assert "paused" in (await visitor.get("/cron?name=nightly")).text
    assert "nightly: next 2" in await press(visitor, "/do/cron", name="nightly", what="resume")
    asked = await visitor.post("/do/cron", data={"name": "often", "what": "delete"})
    assert "will be deleted" in asked.text
    assert "often: deleted" in await press(visitor, "/do/cron", name="often", what="delete", sure="1")
    assert "no periodic job is called often" in await press(visitor, "/do/cron", name="often", what="run")
    assert (await visitor.post("/do/cron", data={"name": "nightly", "what": "explode"})).status_code == 400


async def press(visitor: httpx.AsyncClient, path: str, **fields: Any) -> str:
    done = await visitor.post(path, data={"back": "/limits", **fields})
    assert done.status_code == 303, done.text
    return (await visitor.get(done.headers["location"])).text
