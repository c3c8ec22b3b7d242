"""Runs an app on a fake Redis for a test: `running_app.py` is what the test sees of it.

Consumers, runners, settler and promoter are the worker's own; only the broker is a fake, which passes the same contract
tests as the real one. Nothing here survives the block.

While a job computes (`ctx.run_cpu`), waits for a thread (`trio.to_thread`) or talks over the network (`ctx.http`, without a client of the test's),
a clock that jumps runs like a real one: what goes on there takes real time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio
import trio.testing

from trioworkers.broker.fake_store import EPOCH_S
from trioworkers.broker.redis.connection import retrying
from trioworkers.engine.consumer import Consumer
from trioworkers.engine.delivery import Delivery, by_queue
from trioworkers.engine.locks import Locks
from trioworkers.engine.maintenance import Promoter
from trioworkers.engine.periodic import Ticker
from trioworkers.engine.permits import Permits
from trioworkers.engine.quarantine import Quarantine
from trioworkers.engine.reports import Reports
from trioworkers.engine.runner import Runner
from trioworkers.engine.served_queue import ServedQueue
from trioworkers.engine.settler import Settler
from trioworkers.engine.slots import Slots
from trioworkers.engine.tending import Tending
from trioworkers.engine.within_limits import WithinLimits
from trioworkers.jobs.hooks import Hooks
from trioworkers.jobs.limits import declared_specs
from trioworkers.jobs.resources import SharedResources, open_resources
from trioworkers.size_guard import SizeGuard
from trioworkers.testing.broker import TestBroker
from trioworkers.testing.real_time import real_time_while
from trioworkers.testing.running_app import RunningApp
from trioworkers.testing.shards import Homes
from trioworkers.wire.limit_spec import queue_limit_name

if TYPE_CHECKING:
    from datetime import datetime

    import httpx

    from trioworkers.app import App


@asynccontextmanager
async def run(
    app: App, *, http: httpx.AsyncClient | None = None, manual: bool = False, now: datetime | None = None
) -> AsyncIterator[RunningApp]:
    """Run `app` on a fake Redis until the end of the block. Then its jobs are cancelled. Raises ConfigurationError.

    `manual`: jobs wait until `run_one` or `drain` runs them; each queue has one slot. `http`: a client for the jobs instead of the app's own, like `httpx.AsyncClient(transport=httpx.MockTransport(answer))`. It is closed
    at the end of the block. `now`: the time at the beginning. From then on periodic jobs are sent at their ticks, as the clock goes on or jumps.
    """
    app.check()
    guard = SizeGuard(app.settings)
    epoch_s = EPOCH_S if now is None else now.timestamp() - trio.current_time()
    broker = TestBroker(app.queues, guard=guard, dialect=app.dialect, dialects=app.dialects, epoch_s=epoch_s)
    broker.queue_limits = {queue: (queue_limit_name(each.name), each.spec) for queue, each in app.queue_limits.items()}
    broker.homes = None if app.layout is None else Homes(app.layout)
    test = RunningApp(app, broker, manual=manual)
    raised: BaseException | None = None
    async with open_resources(test.client, app.http, app.settings.cpu_processes, app.lifespan) as resources:
        if http is not None:
            resources.use(http)
        hooks = Hooks((test._note_error, *app.hooks.on_error), app.hooks.on_death)
        test._runner = runner = Runner(
            *(app, app.middlewares, resources, broker.clock.now_s, guard, app.dialects, hooks),
            queue_limits=app.queue_limits,
        )
        with real_time_while(resources):
            async with trio.open_nursery() as nursery:
                await nursery.start(_work_for_ever, test, app, broker, runner, resources)
                try:
                    yield test
                except BaseException as error:  # noqa: BLE001 - carried past the nurseries, so that it comes out ungrouped
                    raised = error
                finally:
                    test._is_over = True
                    test._crash()
    if raised is not None:
        raise raised


async def _work_for_ever(
    test: RunningApp,
    app: App,
    broker: TestBroker,
    runner: Runner,
    resources: SharedResources,
    *,
    task_status: trio.TaskStatus[None],
) -> None:
    """One worker after the other: a new one when a test has had the last one crash."""
    await _work(test, app, broker, runner, resources, task_status)
    while not test._is_over:
        await test._recover()
        await _work(test, app, broker, runner, resources, trio.TASK_STATUS_IGNORED)


async def _work(
    test: RunningApp,
    app: App,
    broker: TestBroker,
    runner: Runner,
    resources: SharedResources,
    task_status: trio.TaskStatus[None],
) -> None:
    served: dict[str, ServedQueue] = {}
    test._served = served

    def on_settled(deliveries: Sequence[Delivery]) -> None:
        test.completed += len(deliveries)
        free_slots(deliveries)

    def free_slots(deliveries: Sequence[Delivery]) -> None:
        for queue, its in by_queue(deliveries).items():
            served[queue].settled(its)

    settler = Settler(broker, on_settled, on_dismissed=free_slots)
    ticker = Ticker(broker, app.periodic_jobs)
    await retrying(ticker.register)
    reports = Reports(lambda _: settler)
    runner.report = reports.add
    tending = Tending(broker, declared_specs(app.limits.values(), app.queue_limits.values()))
    within = WithinLimits(broker, lambda _: broker, test._deliveries, declared_specs(app.limits.values()), tending.add)
    resources.hold_limit = within.hold
    with trio.CancelScope() as test._worker:
        async with trio.open_nursery() as nursery:
            for queue, concurrency in app.queues.items():
                served[queue] = ServedQueue(
                    queue,
                    Slots(1 if test._manual else concurrency).draw(),
                    broker=broker,
                    runner=runner,
                    settler=settler,
                    quarantine=Quarantine(broker),
                    permits=Permits(queue, broker, app.limits[queue], tending.expect) if queue in app.limits else None,
                    locks=Locks(queue, broker, app.unique[queue]) if queue in app.unique else None,
                )
                served[queue].paused = test._manual
                await nursery.start(served[queue].jobs.run)
                consumer = Consumer(served[queue], open_intake=broker.open_intake, on_lease_gone=lambda _: None)
                nursery.start_soon(consumer.run)
            nursery.start_soon(settler.run)
            nursery.start_soon(_promote, broker, ticker)
            nursery.start_soon(runner.hooks.run)
            nursery.start_soon(tending.run)
            nursery.start_soon(reports.run)
            nursery.start_soon(within.run)
            task_status.started()


async def _promote(broker: TestBroker, ticker: Ticker) -> None:
    """Promote at the very moment: the virtual clock should jump from one to the next, not tick through the time between."""
    promoter = Promoter(broker, ticker=ticker)
    while True:
        change = broker.next_change  # of before we look: what comes meanwhile is looked at, too
        wait_s = await retrying(promoter.promote)
        with trio.move_on_after(wait_s):
            await change.wait()
