"""An app that runs on a fake Redis: what a test may ask of it, and do to it.

Consumers, runners, settler and promoter are the worker's own; only the broker is a fake, which passes the same contract
tests as the real one. Nothing here survives the block.

While a job computes (`ctx.run_cpu`), waits for a thread (`trio.to_thread`) or talks over the network (`ctx.http`, without a client of the test's),
a clock that jumps runs like a real one: what goes on there takes real time.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

import trio
import trio.testing

from trioworkers.broker.contract import MAX_CRASHES_IN_COMPANY
from trioworkers.broker.fake import EPOCH_S
from trioworkers.broker.redis.connection import retrying
from trioworkers.engine.consumer import Consumer
from trioworkers.engine.delivery import Delivery, by_queue
from trioworkers.engine.locks import Locks
from trioworkers.engine.maintenance import Promoter
from trioworkers.engine.periodic import Ticker
from trioworkers.engine.permits import Permits
from trioworkers.engine.quarantine import MAX_CRASHES, Quarantine
from trioworkers.engine.runner import Runner
from trioworkers.engine.served_queue import ServedQueue
from trioworkers.engine.settler import Settler
from trioworkers.engine.slots import Slots
from trioworkers.engine.tending import Tending
from trioworkers.engine.within_limits import WithinLimits
from trioworkers.errors import BadPayload
from trioworkers.jobs.client import Client
from trioworkers.jobs.hooks import Hooks
from trioworkers.jobs.limits import declared_specs
from trioworkers.jobs.resources import SharedResources, open_resources
from trioworkers.sending import Sent
from trioworkers.size_guard import SizeGuard
from trioworkers.testing.broker import Ran, TestBroker
from trioworkers.wire.decode import jid_of
from trioworkers.wire.ended import encode_result
from trioworkers.wire.job import Job
from trioworkers.wire.limit_spec import queue_limit_name

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    import httpx

    from trioworkers.app import App
    from trioworkers.jobs.context import Context
    from trioworkers.jobs.handler import Handler

P = ParamSpec("P")
R = TypeVar("R")


class RunningApp:
    """An app that runs on a fake Redis. Jobs are seen as `Job` values; times are the virtual clock's."""

    def __init__(self, app: App, broker: TestBroker, *, manual: bool = False) -> None:
        self._app = app
        self._broker = broker
        self._manual = manual
        self._runner: Runner
        self._served: dict[str, ServedQueue] = {}
        self._worker = trio.CancelScope()
        self._is_over = False
        self._performed: list[Delivery] = []
        self.client = Client.around(broker)
        self.completed = 0
        self.assert_enqueued = broker.sent_jobs.assert_enqueued
        self.refute_enqueued = broker.sent_jobs.refute_enqueued

    @property
    def ran(self) -> list[Ran]:
        """How attempts ended, in this order, and why."""
        return self._broker.ran

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
        self._pause(paused=False)
        while self._broker.has_work() or (retries and any(map(self._is_ours, self._broker.later()))):
            await self._broker.next_change.wait()
        self._pause(paused=True)
        await trio.testing.wait_all_tasks_blocked()  # what was written last is still to be noticed here

    def _pause(self, *, paused: bool) -> None:
        if self._manual:
            for each in self._served.values():
                each.pause(paused)

    # ── one thing at a time ────────────────────────────────────────────────────────────────────────────────────────────

    async def perform(self, handler: Handler[P, ..., R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Build a job for `handler` and run it here and now, with all middleware; returns what the handler returns, and raises what it raises.

        Its arguments go through JSON and come back, as they would. What it enqueues is sent if it returns. Raises TooSlowError after its timeout.
        """
        value: R = await self._perform(handler.job(*args, **kwargs))
        return value

    def _deliveries(self) -> Iterator[Delivery]:
        yield from self._performed
        for each in self._served.values():
            yield from each.deliveries

    async def _perform(self, job: Job) -> Any:
        dialect, _ = self._broker.spoken_on(job.queue)
        payload = dialect.encode(job, self._broker.clock.now_s())
        delivery = Delivery(job.queue, payload, trio.current_time())
        prepared = self._runner._prepare(delivery, lambda _: _set_event())
        if not isinstance(prepared, tuple):
            raise AssertionError(f"{job.job_class} is not attempted: {prepared!r:.200}")  # noqa: TRY004 - of the test's
        handler, ctx = prepared
        value = None
        self._performed.append(delivery)
        try:
            with trio.CancelScope(deadline=ctx.deadline) as scope:
                value = await self._runner._call(handler, ctx)
        finally:
            self._performed.remove(delivery)
        if scope.cancelled_caught:
            raise self._runner._too_slow(handler, ctx, "")
        self._runner._check_sends(ctx)
        if handler is not None and handler.keep_result_s is not None:
            encode_result(value)
        if ctx._sends:
            await self._broker.send(ctx._sends)
        return value

    async def run_one(self, queue: str | None = None) -> Ran:
        """Run the next job (of `queue`, or of the first queue where one waits); returns how that ended. Only with `run(app, manual=True)`.

        Raises AssertionError if none waits, or if it isn't run: a limit keeps it.
        """
        if not self._manual:
            raise RuntimeError("run_one is for testing.run(app, manual=True), where jobs wait until they are asked for")
        waiting = self._broker.queues
        name = next((each for each in ([queue] if queue else self._app.queues) if waiting.get(each)), None)
        if name is None:
            raise AssertionError(f"no job waits {f'on {queue}' if queue else 'on the queues of the app'}")
        had, count, served = len(waiting[name]), len(self.ran), self._served[name]
        served.pause(paused=False)
        await self._until(lambda: len(waiting[name]) < had)
        served.pause(paused=True)  # it has one slot, which is taken: no other is fetched
        await self._until(lambda: not self._broker.lists.get((name, self._broker.holder.process_id)))
        await trio.testing.wait_all_tasks_blocked()
        if len(self.ran) == count:
            raise AssertionError("the job was not run: it waits at a limit")
        return self.ran[-1]

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._broker.next_change.wait()

    async def advance(
        self, seconds: float = 0.0, *, minutes: float = 0.0, hours: float = 0.0, days: float = 0.0
    ) -> None:
        """Let time pass: what comes due meanwhile (retries, what is scheduled, expiries) happens in its order, each at its moment.

        Needs a virtual clock: pytest-trio's fixture `autojump_clock`.
        """
        clock = trio.lowlevel.current_clock()
        if not isinstance(clock, trio.testing.MockClock):
            raise RuntimeError(  # noqa: TRY004 - nobody gave us a clock of the wrong type
                "advance needs a virtual clock: take pytest-trio's fixture autojump_clock"
            )
        total_s = seconds + 60 * minutes + 3600 * hours + 86_400 * days
        if clock.autojump_threshold == math.inf and clock.rate == 0.0:
            clock.jump(total_s)
        else:
            await trio.sleep(total_s)
        await trio.testing.wait_all_tasks_blocked()

    # ── faults ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def crash_worker(self) -> None:
        """End the worker as `kill -9` does, and start another one: what ran is put back and charged with the crash; the third one buries it.

        Nothing that was not written yet is. But for one thing it is as in truth: a handler's `finally` blocks run.
        """
        self._crash()
        await trio.testing.wait_all_tasks_blocked()

    def _crash(self) -> None:
        for each in self._served.values():
            each.cancel_jobs()
        self._worker.cancel()

    async def _recover(self) -> None:
        lists = {queue: list(payloads) for (queue, _), payloads in self._broker.lists.items() if payloads}
        jids = [jid_of(payload) for payloads in lists.values() for payload in payloads]
        suspects = self._broker.in_quarantine & set(jids)
        to_blame = [jid for jid in jids if jid in suspects] or jids
        with self._broker.reachable():
            await self._broker.charge(to_blame, self._times(suspects))
            for queue in lists:
                await self._broker.release(queue)
        self._broker.in_quarantine.clear()

    def _times(self, suspects: AbstractSet[str]) -> int:
        """How often the charge counts: so often that it buries, if a suspect was alone when it struck for the last time. See `quarantine`."""
        last = len(suspects) == 1 and self._broker.crash_counts[next(iter(suspects))] + 1 >= MAX_CRASHES
        return MAX_CRASHES_IN_COMPANY if last else 1

    @contextmanager
    def redis_down(self) -> Iterator[None]:
        """Within the block each call to Redis fails with Unavailable, the test's own, too. Jobs that run go on."""
        self._broker.is_down = True
        try:
            yield
        finally:
            self._broker.is_down = False
            self._broker.wake()

    def lose_reply(self, of: Literal["settle", "send"] = "settle", *, times: int = 1) -> None:
        """Have the next outcomes that are written, or what a client sends next, arrive, and their reply not."""
        self._broker.losing[of] += times

    def jump_clock(self, seconds: float) -> None:
        """Have Redis's clock jump, forward or back, while no time passes."""
        self._broker.jumped_s += seconds
        self._broker.wake()

    async def _note_error(self, ctx: Context, error: BaseException) -> None:
        self._broker.errors[ctx.job.jid] = error

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
async def run(
    app: App, *, http: httpx.AsyncClient | None = None, manual: bool = False, now: datetime | None = None
) -> AsyncIterator[RunningApp]:
    """Run `app` on a fake Redis for as long as the block lasts; then its jobs are cancelled. Raises ConfigurationError.

    `manual`: jobs wait until `run_one` or `drain` has them run; each queue has one slot. `http`: a client for the jobs instead of the app's own, like `httpx.AsyncClient(transport=httpx.MockTransport(answer))`; closed
    at the end of the block. `now`: what time it is at the beginning. Periodic jobs are sent at their ticks from then on, as the clock goes on or jumps.
    """
    app.check()
    guard = SizeGuard(app.settings)
    epoch_s = EPOCH_S if now is None else now.timestamp() - trio.current_time()
    broker = TestBroker(app.queues, guard=guard, dialect=app.dialect, dialects=app.dialects, epoch_s=epoch_s)
    broker.queue_limits = {queue: (queue_limit_name(each.name), each.spec) for queue, each in app.queue_limits.items()}
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
        with _real_time_while(resources):
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
            nursery.start_soon(within.run)
            task_status.started()


def _set_event() -> trio.Event:
    event = trio.Event()
    event.set()
    return event


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


async def _promote(broker: TestBroker, ticker: Ticker) -> None:
    """Promote at the very moment: the virtual clock should jump from one to the next, not tick through the time between."""
    promoter = Promoter(broker, ticker=ticker)
    while True:
        change = broker.next_change  # of before we look: what comes meanwhile is looked at, too
        wait_s = await retrying(promoter.promote)
        with trio.move_on_after(wait_s):
            await change.wait()
