"""More successors than one step has time for: a real worker moves them in pages, at once."""

from __future__ import annotations

import trio
from servers import Server

from trioworkers import App, Discard


async def test_successors_by_the_thousand_are_moved_in_pages(redis_url: str, shared_server: Server):
    app, ran, over = App(redis_url), 0, trio.Event()
    app.queue("q", concurrency=500)

    @app.handler("q", "Work")
    async def work(how: str) -> None:
        nonlocal ran
        ran += 1
        if how == "discards":
            raise Discard

    @app.handler("q", "Over")
    async def finished() -> None:
        over.set()

    async with app.client() as client, trio.open_nursery() as nursery:
        await nursery.start(app.serve)
        async with client.batch(on_finished=finished.job()) as batch:
            good, bad = await batch.add(work.job("well")), await batch.add(work.job("discards"))
            for _ in range(3):
                await batch.add(*(work.job("well") for _ in range(1000)), after=[good])
                await batch.add(*(work.job("well") for _ in range(1000)), after=[good, bad])
        await over.wait()
        nursery.cancel_scope.cancel()
    assert ran == 3002
    assert shared_server.command("ZCARD", "tw:successors") == 0
    assert shared_server.command("EXISTS", "tw:moving", "tw:repairs") == 0
    assert shared_server.command("HGET", f"tw:batch:{batch.id}", "skipped") == "3000"
