"""What waits of a cancelled batch doesn't run, however its queue is fetched: by itself, with others in one script, as it comes, or after news of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis
import trio

from trioworkers import App, FleetLimit, Worker

KINDS = {"alone": 1, "few": 3, "many": 12, "limited": 3}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("is_backlog", [True, False], ids=["from a backlog", "as it comes"])
async def test_what_waits_of_a_cancelled_batch_does_not_run_in_any_kind_of_queue(
    redis_url: str, kind: str, is_backlog: bool
):
    app = App(redis_url, shutdown_timeout=0.1)
    ran: list[str] = []
    names = [f"q{number}" for number in range(KINDS[kind])]

    async def note(what: str) -> None:
        ran.append(what)

    handlers = [app.handler(name, "Note")(note) for name in names]
    if kind == "limited":
        app.queue(names[1], limit=FleetLimit("wide", concurrency=100))
    if kind != "alone":
        app.capsule("together", concurrency=20, queues=names)

    async def send() -> None:
        async with app.client() as client:
            with pytest.raises(KeyError):
                async with client.batch() as batch:
                    await batch.add(*(handlers[0].job("cancelled") for _ in range(3)))
                    raise KeyError

    await send()
    with redis.Redis.from_url(redis_url) as there:

        def lie_somewhere() -> bool:
            return bool(there.exists("queue:q0", *there.keys("queue:*:inprogress")))

        async def until(condition: Callable[[], object]) -> None:
            with trio.fail_after(30):
                while not condition():
                    await trio.sleep(0.01)

        cancelled = [] if is_backlog else [there.rpop("queue:q0") for _ in range(3)]
        async with trio.open_nursery() as nursery, app.client() as client:
            worker: Worker = await nursery.start(app.serve)
            await client.enqueue(*(each.job("plain") for each in handlers))
            await until(lambda: len(ran) >= len(names) and not lie_somewhere())
            for payload in cancelled:
                there.lpush("queue:q0", payload)
                await until(lambda: not lie_somewhere())
            worker.stop(0.1)
    assert ran == ["plain"] * len(names)
