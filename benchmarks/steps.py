"""The budget: µs of CPU for each step of an empty job's journey, each step by itself, at its best of many tries.

`python benchmarks/steps.py`. The tries are short and CPU time is what counts, so that the figures hold on a busy machine, too. What
a job costs in all is measured by `quick.py`; the difference between its figure and this sum is what steps cost each other's caches.
"""

from __future__ import annotations

import json
import time
import timeit
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import ContextVar
from typing import Any

import trio

from trioworkers import App, Context
from trioworkers.broker.contract import Settlement
from trioworkers.broker.fake import FakeBroker
from trioworkers.engine.consumer import STARTS_PER_ROUND
from trioworkers.engine.delivery import Delivery, State
from trioworkers.engine.lanes import Lanes
from trioworkers.engine.runner import Attempt, Runner
from trioworkers.engine.settler import Settler
from trioworkers.outcome import ACKNOWLEDGE, Outcome
from trioworkers.size_guard import SizeGuard
from trioworkers.wire.decode import decode
from trioworkers.wire.packing import pack

GROUP = 1000
FIELDS = {"retry": True, "queue": "q", "class": "Empty", "args": [1, "two"], "jid": "0" * 24}
PAYLOAD = json.dumps(FIELDS | {"created_at": 1758000000.123, "enqueued_at": 1758000000.4}).encode()

left_behind: ContextVar[object] = ContextVar("left_behind")
app = App("redis://localhost")


@app.handler("q", "Empty", timeout=30)
async def empty(ctx: Context, number: int, text: str) -> None: ...


@app.middleware
async def pass_on(ctx: Context, call_next: Callable[[], Awaitable[Any]]) -> Any:
    return await call_next()


def best_us(step: Callable[[], object], each: int = 1) -> float:
    """µs of one `step` that does `each` of the same."""
    number = max(1, 300 // each)
    return min(timeit.repeat(step, number=number, repeat=200, timer=time.process_time)) / number / each * 1e6


def to_its_end(coroutine: Coroutine[Any, Any, object]) -> None:
    """Run what awaits nothing that isn't there."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise AssertionError("it awaits something")


async def lanes_us(*, of_their_own: bool) -> float:
    """From the start of a job to its end, if it shares its task, or if each job leaves something in a context variable and so doesn't."""

    async def run(delivery: Delivery) -> Outcome:
        if of_their_own:
            left_behind.set(delivery)
        return ACKNOWLEDGE

    lanes = Lanes(run, lambda *_: None, "job on q")
    batches = [[Delivery("q", PAYLOAD, 0.0) for _ in range(STARTS_PER_ROUND)] for _ in range(GROUP // STARTS_PER_ROUND)]
    found = []
    for _ in range(100):
        began = time.process_time()
        async with trio.open_nursery() as nursery:
            for batch in batches:
                await lanes.start(batch, nursery)
        found.append(time.process_time() - began)
    return min(found) / GROUP * 1e6


async def main() -> None:
    delivery = Delivery("q", PAYLOAD, 0.0)
    job = decode(PAYLOAD, "q")
    handler = app.find("q", "Empty")
    assert handler is not None
    runner = Runner(app, app.middlewares, None, time.time, SizeGuard())  # type: ignore[arg-type]
    deadline = trio.current_time() + 30

    def scope() -> None:
        delivery.state = State.FETCHED
        with delivery.start(deadline):
            pass

    def attempt() -> None:
        delivery.state = State.FETCHED
        to_its_end(runner.run(delivery, lambda _: trio.Event()))

    def group() -> None:
        settler = Settler(FakeBroker(), lambda _: None)
        for each in deliveries:
            each.state = State.RUNNING
            settler.submit(each, ACKNOWLEDGE)
        taken = settler._take()
        settlements = [Settlement(each.queue, each.payload, outcome) for each, outcome in taken]
        pack([("list", [settlement.payload for settlement in settlements])])

    deliveries = [Delivery("q", PAYLOAD, 0.0) for _ in range(GROUP)]
    steps = {
        "delivery": best_us(lambda: Delivery("q", PAYLOAD, 0.0)),
        "lane": await lanes_us(of_their_own=False),
        "decode": best_us(lambda: decode(PAYLOAD, "q")),
        "find the handler": best_us(lambda: app.find("q", "Empty")),
        "context": best_us(lambda: Context(job, deadline, None, print, None)),  # type: ignore[arg-type]
        "scope with its timeout": best_us(scope),
        "bind, middleware, handler": best_us(
            lambda: to_its_end(runner._call(Attempt(handler, Context(job, deadline, None, print))))
        ),  # type: ignore[arg-type]
    }
    whole = best_us(attempt)
    inner = ("decode", "find the handler", "context", "scope with its timeout", "bind, middleware, handler")
    steps["rest of the runner"] = whole - sum(steps[name] for name in inner)
    steps["outcome, group, packing"] = best_us(group, GROUP)
    for name, us in steps.items():
        print(f"{name:28}{us:6.1f} µs")
    print(f"{'sum, Redis client apart':28}{sum(steps.values()):6.1f} µs")
    print(f"{'a task of its own instead':28}{await lanes_us(of_their_own=True):6.1f} µs, for a job that waits")


if __name__ == "__main__":
    trio.run(main)
