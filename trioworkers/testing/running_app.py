"""What a test may ask of an app that runs on a fake Redis, and do to it. `running.py` runs it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

import trio
import trio.testing

from trioworkers.broker.contract import MAX_CRASHES_IN_COMPANY
from trioworkers.engine.delivery import Delivery
from trioworkers.engine.quarantine import MAX_CRASHES
from trioworkers.engine.runner import Attempt, Runner
from trioworkers.engine.served_queue import ServedQueue
from trioworkers.errors import BadPayload
from trioworkers.jobs.client import Client
from trioworkers.sending import Sent
from trioworkers.testing.broker import Ran, TestBroker
from trioworkers.wire.decode import jid_of
from trioworkers.wire.ended import encode_result
from trioworkers.wire.job import Job

if TYPE_CHECKING:
    from datetime import datetime, timedelta

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
        """The jobs that wait in a queue; the first is fetched next. For a queue that the app doesn't serve, all jobs that were sent there."""
        dialect, _ = self._broker.spoken_on(queue)
        return [dialect.decode(payload, queue) for payload in reversed(self._broker.queues.get(queue, []))]

    def shard_of(self, job: Job) -> str:
        """In which shard a job is, of an App with several Redises; "" for the App's own. Raises BadJob if it could be in none."""
        return "" if self._broker.homes is None else self._broker.homes.of(job)

    @property
    def retries(self) -> list[Job]:
        """Jobs that wait for their next attempt, soonest first."""
        return self._members("retry")

    @property
    def scheduled(self) -> list[Job]:
        """Scheduled jobs, soonest first."""
        return self._members("schedule") + self._members("delayed")

    @property
    def dead(self) -> list[Job]:
        """Jobs that failed for good, oldest first. Unreadable payloads are left out (see `dead_payloads`)."""
        return self._members("dead")

    @property
    def dead_payloads(self) -> list[bytes]:
        """The dead set's bytes."""
        return list(self._broker.sets["dead"])

    async def drain(self, *, retries: bool = False) -> None:
        """Wait until no job waits or runs on the app's queues. With `retries` it also waits for retries and for scheduled jobs.

        It doesn't wait for jobs that `unknown="leave"` leaves for others: they would come back for ever.
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
        """Build a job for `handler` and run it at once, with all middleware. Returns what the handler returns, and raises what the handler raises.

        Its arguments are written as JSON and read back. If the handler returns, the jobs that it enqueues are sent. Raises TooSlowError after its timeout.
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
        attempt = self._runner._prepare(delivery, self._runner.progress_saved_by(lambda _: _set_event()))
        if not isinstance(attempt, Attempt):
            raise AssertionError(f"{job.job_class} is not attempted: {attempt!r:.200}")  # noqa: TRY004 - of the test's
        handler, ctx = attempt.handler, attempt.ctx
        value = None
        self._performed.append(delivery)
        try:
            with trio.CancelScope(deadline=ctx.deadline) as scope:
                value = await self._runner._call(attempt)
        finally:
            self._performed.remove(delivery)
        if scope.cancelled_caught:
            raise self._runner._too_slow(attempt, "")
        self._runner._check_sends(ctx)
        if handler is not None and handler.keep_result_s is not None:
            encode_result(value)
        if ctx._sends:
            await self._broker.send(ctx._sends, by=job)
        return value

    async def run_one(self, queue: str | None = None) -> Ran:
        """Run the next job (of `queue`, or of the first queue where a job waits). Returns how it ended. Only with `run(app, manual=True)`.

        Raises AssertionError if no job waits, or if a limit doesn't let it run.
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
        """Let time pass. Jobs that become due meanwhile run in their order, each at its moment; jobs that expire are forgotten.

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
        """End the worker as `kill -9` does, and start another one. Jobs that ran are put back, and the crash is counted. After the third crash a job is dead.

        Outcomes that were not written yet are lost. There is one difference from a real crash: `finally` blocks of handlers do run.
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
        """Within the block each call to Redis fails with Unavailable, also calls of the test. Running jobs go on."""
        self._broker.is_down = True
        try:
            yield
        finally:
            self._broker.is_down = False
            self._broker.wake()

    def lose_reply(self, of: Literal["settle", "send"] = "settle", *, times: int = 1) -> None:
        """Lose the reply to the next outcomes, or to the next jobs that a client sends. They are written all the same."""
        self._broker.losing[of] += times

    def jump_clock(self, seconds: float) -> None:
        """Make Redis's clock jump, forward or back. No time passes."""
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


def _set_event() -> trio.Event:
    event = trio.Event()
    event.set()
    return event
