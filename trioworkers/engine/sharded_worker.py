"""One worker with several Redises: a part at each, which is a worker by itself, with its own lease, settler, promoter and reclaimer.

They share nothing but the slots, so whatever becomes of one Redis is its part's business alone. What is told to one part of them, to stop or to be quiet, holds for all.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from itertools import chain

import attrs
import trio

from trioworkers.broker.emergency import Lists
from trioworkers.engine import told
from trioworkers.engine.delivery import Delivery
from trioworkers.engine.queues import fetched_together
from trioworkers.engine.slots import Draw, Slots
from trioworkers.engine.worker import Stats, Worker
from trioworkers.errors import TrioworkersError
from trioworkers.health import Health
from trioworkers.jobs.limits import FleetLimit
from trioworkers.jobs.observers import Observer
from trioworkers.wire.capsule import Capsule
from trioworkers.wire.hosts import HostState

logger = logging.getLogger("trioworkers")


def shared_draws(
    capsules: Iterable[Capsule], queue_limits: Mapping[str, FleetLimit], drained: Mapping[str, Collection[str]]
) -> dict[str, dict[tuple[str, str], Draw]]:
    """By shard its way to the slots of each capsule, of which there are no more than without shards: see `Declared`. `drained`: by shard what lies elsewhere.

    A strict order of queues that are fetched together is kept within each shard; of others, in all shards together. The shards take turns.
    """
    found: dict[str, dict[tuple[str, str], Draw]] = {shard: {} for shard in drained}
    for capsule in capsules:
        together = fetched_together(capsule, queue_limits)
        slots = Slots(capsule.concurrency, "strict" if capsule.strict and not together else "weighted")
        if together:
            for shard, gone in drained.items():
                names = ("",) if fetched_together(capsule, queue_limits, gone) else capsule.weights
                found[shard] |= {(capsule.name, name): slots.draw() for name in names}
            continue
        for rank, (queue, weight) in enumerate(capsule.weights.items()):
            for shard in drained:
                found[shard][capsule.name, queue] = slots.draw(weight, rank)
    return found


@attrs.define(eq=False)
class Part:
    """One Redis of such a worker: `begin` waits until it is there, `work` runs its jobs until it is stopped."""

    worker: Worker
    begin: Callable[[], Awaitable[None]]
    work: Callable[[Callable[[], None]], Awaitable[None]]
    heard_at: Callable[[], float]
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    has_started: bool = False


class ShardedWorker(Worker):
    """See the module; to users it is what `Worker` is. `parts`: by shard. `chores`: what is to be run beside them."""

    def __init__(self, parts: Mapping[str, Part], chores: Sequence[Callable[[], Awaitable[None]]] = ()) -> None:
        self._parts = parts
        self._chores_of_all = chores
        self._workers = [part.worker for part in parts.values()]
        self.identity = self._workers[0].identity
        self.observers: Sequence[Observer] = ()
        self._told = trio.Event()
        self._gone = trio.Event()
        self._quieted = trio.Event()
        self._error: Exception | None = None
        self._token = None

    def __repr__(self) -> str:
        return f"<ShardedWorker {', '.join(f'{name}: {part.worker!r}' for name, part in self._parts.items())}>"

    # ── what it is doing ───────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def stopping(self) -> bool:
        """Whether it has been told to stop."""
        return self._told.is_set()

    @property
    def told_to_stop(self) -> trio.Event:
        """Set when it is."""
        return self._told

    @property
    def quieted(self) -> trio.Event:
        """Set when it fetches no more."""
        return self._quieted

    @property
    def stopped_for(self) -> Exception | None:
        """Why it stopped, if one of its parts did so by itself."""
        return self._error or next((each.stopped_for for each in self._workers if each.stopped_for), None)

    @property
    def is_registered(self) -> bool:
        """Whether any of its Redises has heard of it within its lease."""
        return any(each.is_registered for each in self._workers)

    @property
    def shutdown_timeout_s(self) -> float:
        """What running jobs get to finish."""
        return self._workers[0].shutdown_timeout_s

    @property
    def deadline(self) -> float:
        """When running jobs are cancelled, by `trio.current_time()`; inf while the worker isn't stopping."""
        return max(each.deadline for each in self._workers)

    @property
    def gone(self) -> trio.Event:
        """Set when all its parts have departed."""
        return self._gone

    @property
    def lists(self) -> Sequence[Lists]:
        """Where its in-progress lists are, at each Redis."""
        return [*chain.from_iterable(each.lists for each in self._workers)]

    def running(self) -> Iterable[Delivery]:
        """What takes a slot."""
        return chain.from_iterable(each.running() for each in self._workers)

    def stats(self) -> Stats:
        """What it is doing now, at all its Redises together."""
        parts = [each.stats() for each in self._workers]
        running: Counter[str] = Counter()
        left: Counter[str] = Counter()
        for part in parts:
            running.update(part.running)
            left.update(part.left)
        free = {queue: count for part in parts for queue, count in part.free.items()}  # the same slots
        settled = sum(part.settled for part in parts)
        return Stats(dict(running), free, settled, dict(left), self._quieted.is_set(), self.stopping)

    def health(self) -> Health:
        """See `Worker.health`. It is ready as long as one of its Redises is there."""
        return told.health(self.pulse(), self._token, max(part.heard_at() for part in self._parts.values()))

    @property
    def settle_groups(self) -> int:
        """In how many calls outcomes were written."""
        return sum(each.settle_groups for each in self._workers)

    @property
    def reclaimed(self) -> int:
        """How many jobs of dead workers it has put back."""
        return sum(each.reclaimed for each in self._workers)

    @property
    def hosts(self) -> Sequence[HostState]:
        """See `Worker.hosts`. Its parts call over one client: what one of them knows is all there is."""
        return next((each.hosts for each in self._workers if each.hosts), ())

    def tell_of_hosts(self, hosts: Callable[[], Sequence[HostState] | None]) -> None:
        """See `Worker.tell_of_hosts`: every Redis is told."""
        for each in self._workers:
            each.tell_of_hosts(hosts)

    # ── what it is told ────────────────────────────────────────────────────────────────────────────────────────────────

    def quiet(self) -> None:
        """Fetch no more; running jobs go on. Only a restart makes it fetch again."""
        self._quieted.set()
        for each in self._workers:
            each.quiet()

    def stop(self, timeout_s: float | None = None) -> None:
        """See `Worker.stop`. A part whose Redis never came is given up."""
        self._quieted.set()
        for part in self._parts.values():
            part.worker.stop(timeout_s)
            if not part.has_started:
                part.scope.cancel()
        self._told.set()

    def blame_jobs(self, senders: Collection[Delivery] = ()) -> None:
        """See `Worker.blame_jobs`."""
        for each in self._workers:
            each.blame_jobs(senders)

    @property
    def blames_jobs(self) -> bool:
        """See `Worker.blames_jobs`."""
        return any(each.blames_jobs for each in self._workers)

    # ── what it does ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def serve(self, on_started: Callable[[str], None]) -> None:
        """Work until stopped, as `Worker.run` does. `on_started`: told of each shard."""
        self._token = trio.lowlevel.current_trio_token()
        try:
            async with trio.open_nursery() as listening:
                for chore in self._chores_of_all:
                    listening.start_soon(self._mind_chore, chore)
                async with trio.open_nursery() as nursery:
                    for name, part in self._parts.items():
                        nursery.start_soon(self._serve, name, part, on_started)
                        listening.start_soon(self._pass_on, part)
                listening.cancel_scope.cancel()
        finally:
            self._gone.set()
        if self.stopped_for is not None:
            raise self.stopped_for

    async def _serve(self, name: str, part: Part, on_started: Callable[[str], None]) -> None:
        def started() -> None:
            part.has_started = True
            on_started(name)

        try:
            with part.scope:
                await part.begin()
                await part.work(started)
        except Exception as error:  # noqa: BLE001 - raised by `serve`, when the jobs of all parts are safe
            self._fail(error)  # it has charged its own jobs

    async def _mind_chore(self, chore: Callable[[], Awaitable[None]]) -> None:
        try:
            await chore()
        except Exception as error:  # noqa: BLE001 - as in `_serve`
            self.stop_for(error)

    def stop_for(self, reason: Exception, timeout_s: float | None = None) -> None:
        """See `Worker.stop_for`."""
        if self._error is None and not isinstance(reason, TrioworkersError):
            self.blame_jobs()
        self._fail(reason, timeout_s)

    def _fail(self, error: Exception, timeout_s: float | None = None) -> None:
        if self._error is None:
            logger.error("%s", error)
            self._error = error
        self.stop(timeout_s)

    async def _pass_on(self, part: Part) -> None:
        """What one part is told by Sidekiq's tools, or stops for, is for all."""
        await part.worker.quieted.wait()
        self.quiet()
        await part.worker.told_to_stop.wait()
        self.stop(max(0.0, part.worker.deadline - trio.current_time()))
