"""An app without Redis, on Trio's virtual clock: for the tests of those who write handlers.

```python
async def test_welcome(autojump_clock):
    async with trioworkers.testing.run(app) as test:
        await test.enqueue(welcome.job(7))
        await test.drain()
        assert test.jobs("mails") == [Job(...)]
```

Consumers, runners, settler and promoter are the worker's own; only the broker is a fake, which passes the same contract
tests as the real one. Nothing here survives the block.

While a job computes (`ctx.run_cpu`), waits for a thread (`trio.to_thread`) or talks over the network (`ctx.http`, without a client of the test's),
a clock that jumps runs like a real one: what goes on there takes real time.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import trio
import trio.testing

from trioworkers.broker.fake import FakeBroker
from trioworkers.broker.redis.connection import retrying
from trioworkers.engine.consumer import Consumer
from trioworkers.engine.delivery import by_queue
from trioworkers.engine.job_nursery import JobNursery
from trioworkers.engine.locks import Locks
from trioworkers.engine.maintenance import Promoter
from trioworkers.engine.permits import Permits
from trioworkers.engine.quarantine import Quarantine
from trioworkers.engine.runner import Runner
from trioworkers.engine.settler import Settler
from trioworkers.engine.slots import Slots
from trioworkers.engine.tending import Tending
from trioworkers.errors import BadPayload
from trioworkers.jobs.client import Client
from trioworkers.jobs.limits import declared_specs
from trioworkers.jobs.resources import SharedResources, open_resources
from trioworkers.sending import Sent
from trioworkers.size_guard import SizeGuard
from trioworkers.wire.job import Job
from trioworkers.wire.limit_spec import queue_limit_name

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    import httpx

    from trioworkers.app import App
    from trioworkers.engine.delivery import Delivery


class RunningApp:
    """An app that runs on a fake Redis. Jobs are seen as `Job` values; times are the virtual clock's."""

    def __init__(self, app: App, broker: FakeBroker) -> None:
        self._app = app
        self._broker = broker
        self.client = Client.around(broker)
        self.completed = 0

    async def enqueue(self, *jobs: Job) -> list[Sent]:
        """As `Client.enqueue`."""
        return await self.client.enqueue(*jobs)

    async def schedule(self, when: datetime | timedelta | float, *jobs: Job) -> list[Sent]:
        """As `Client.schedule`."""
        return await self.client.schedule(when, *jobs)

    def jobs(self, queue: str) -> list[Job]:
        """What waits in a queue, next to be fetched first: of queues that the app doesn't consume, all that was sent there."""
        dialect, _ = self._broker.spoken_on(queue)
        return [dialect.decode(payload, queue) for payload in reversed(self._broker.queues.get(queue, []))]

    @property
    def retries(self) -> list[Job]:
        """What waits for its next attempt, soonest first."""
        return self._members("retry")

    @property
    def scheduled(self) -> list[Job]:
        """What is scheduled, soonest first."""
        return self._members("schedule") + self._members("delayed")

    @property
    def dead(self) -> list[Job]:
        """What failed for good, oldest first; unreadable payloads are left out (see `dead_payloads`)."""
        return self._members("dead")

    @property
    def dead_payloads(self) -> list[bytes]:
        """The dead set's bytes."""
        return list(self._broker.sets["dead"])

    async def drain(self, *, retries: bool = False) -> None:
        """Wait until nothing waits or runs on the app's queues; with `retries` (and what is scheduled) until that is done, too.

        What `unknown="leave"` leaves for others is not waited for: it would come back for ever.
        """
        while self._broker.has_work() or (retries and any(map(self._is_ours, self._broker.later()))):
            await self._broker.next_change.wait()
        await trio.testing.wait_all_tasks_blocked()  # what was written last is still to be noticed here

    def _is_ours(self, payload: bytes) -> bool:
        try:
            queue = self._broker.queue_of(payload)
            job = self._broker.spoken_on(queue)[0].decode(payload, queue)
        except BadPayload:
            return True
        is_left = self._app.find(queue, job.job_class) is None and self._app.unknown_on(queue) == "leave"
        return not is_left or queue not in self._app.queues

    def _members(self, name: str) -> list[Job]:
        found = []
        for payload in self._broker.sets[name]:
            try:
                queue = self._broker.queue_of(payload)
                found.append(self._broker.spoken_on(queue)[0].decode(payload, queue))
            except BadPayload:
                continue
        return found


@asynccontextmanager
async def run(app: App, *, http: httpx.AsyncClient | None = None) -> AsyncIterator[RunningApp]:
    """Run `app` on a fake Redis for as long as the block lasts; then its jobs are cancelled. Raises ConfigurationError.

    `http`: a client for the jobs instead of the app's own, like `httpx.AsyncClient(transport=httpx.MockTransport(answer))`; closed
    at the end of the block.
    """
    app.check()
    guard = SizeGuard(app.settings)
    broker = FakeBroker(app.queues, guard=guard, dialect=app.dialect, dialects=app.dialects)
    broker.queue_limits = {queue: (queue_limit_name(each.name), each.spec) for queue, each in app.queue_limits.items()}
    test = RunningApp(app, broker)
    async with open_resources(test.client, app.http, app.settings.cpu_processes, app.lifespan) as resources:
        if http is not None:
            resources.use(http)
        runner = Runner(app, app.middlewares, resources, broker.clock.now_s, guard, app.dialects, app.hooks)
        consumers: dict[str, Consumer] = {}

        def on_settled(deliveries: Sequence[Delivery]) -> None:
            test.completed += len(deliveries)
            free_slots(deliveries)

        def free_slots(deliveries: Sequence[Delivery]) -> None:
            for queue, its in by_queue(deliveries).items():
                consumers[queue].settled(its)

        settler = Settler(broker, on_settled, on_dismissed=free_slots)
        tending = Tending(broker, declared_specs(app.limits.values(), app.queue_limits.values()))
        with _real_time_while(resources):
            async with trio.open_nursery() as nursery:
                for queue, concurrency in app.queues.items():
                    consumers[queue] = Consumer(
                        queue,
                        Slots(concurrency).draw(),
                        broker=broker,
                        open_intake=broker.open_intake,
                        runner=runner,
                        settler=settler,
                        quarantine=Quarantine(broker),
                        on_lease_gone=lambda _: None,
                        permits=Permits(queue, broker, app.limits[queue], tending.look)
                        if queue in app.limits
                        else None,
                        locks=Locks(queue, broker, app.unique[queue]) if queue in app.unique else None,
                    )
                    jobs = JobNursery(queue)
                    await nursery.start(jobs.run)
                    nursery.start_soon(consumers[queue].run, jobs)
                nursery.start_soon(settler.run)
                nursery.start_soon(_promote, broker)
                nursery.start_soon(runner.hooks.run)
                if app.limits or app.queue_limits:
                    nursery.start_soon(tending.run)
                try:
                    yield test
                finally:
                    for consumer in consumers.values():
                        consumer.cancel_jobs()
                nursery.cancel_scope.cancel()


class _RealTime(trio.abc.Instrument):
    """Has a clock that jumps run like the real one while something goes on that Trio can't see: it would jump to the deadline of that."""

    def __init__(self, clock: trio.testing.MockClock, resources: SharedResources) -> None:
        self._clock = clock
        self._resources = resources
        self._threads = trio.to_thread.current_default_thread_limiter()
        self._jumps_after: float | None = None  # while it does not jump
        self._rate = clock.rate

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Whatever begins or ends does so in a step of a task."""
        del task
        if self._resources.is_busy_outside or self._threads.borrowed_tokens > 0:
            self._hold()
        else:
            self.let_go()

    def _hold(self) -> None:
        if self._jumps_after is None and self._clock.autojump_threshold < math.inf:
            self._jumps_after, self._rate = self._clock.autojump_threshold, self._clock.rate
            self._clock.autojump_threshold, self._clock.rate = math.inf, 1.0

    def let_go(self) -> None:
        """Let it jump again."""
        if self._jumps_after is not None:
            self._clock.autojump_threshold, self._clock.rate = self._jumps_after, self._rate
            self._jumps_after = None


@contextmanager
def _real_time_while(resources: SharedResources) -> Iterator[None]:
    clock = trio.lowlevel.current_clock()
    if not isinstance(clock, trio.testing.MockClock):
        yield
        return
    instrument = _RealTime(clock, resources)
    trio.lowlevel.add_instrument(instrument)
    try:
        yield
    finally:
        trio.lowlevel.remove_instrument(instrument)
        instrument.let_go()


async def _promote(broker: FakeBroker) -> None:
    """Promote at the very moment: the virtual clock should jump from one to the next, not tick through the time between."""
    promoter = Promoter(broker)
    while True:
        change = broker.next_change  # of before we look: what comes meanwhile is looked at, too
        wait_s = await retrying(promoter.promote)
        with trio.move_on_after(wait_s):
            await change.wait()
