"""Opens everything that a worker needs, in order, runs it, and closes it in reverse."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from trioworkers.broker.brokers import Brokers
from trioworkers.broker.checks import check_server
from trioworkers.broker.contract import Broker, Holder
from trioworkers.broker.moves import RedisBroker
from trioworkers.broker.redis.connection import Connection, connect, retrying
from trioworkers.broker.redis.link import Link
from trioworkers.broker.redis.server import open_server
from trioworkers.broker.ungrouped import ungrouped
from trioworkers.chosen_redis import noted_elsewhere
from trioworkers.engine.observed_runner import ObservedRunner, observed
from trioworkers.engine.queues import Declared
from trioworkers.engine.runner import Runner
from trioworkers.engine.slots import Draw
from trioworkers.engine.tree import SYSTEM_TASK_FAILED, a_system_task_failed, why_cancelled
from trioworkers.engine.watchdog import watching
from trioworkers.engine.within_lifespan import run_within
from trioworkers.engine.worker import Worker
from trioworkers.errors import Refused, Superseded
from trioworkers.identity import current_identity
from trioworkers.jobs.client import Client
from trioworkers.jobs.context import Resources
from trioworkers.jobs.resources import SharedResources, open_resources
from trioworkers.redis_url import shown_url
from trioworkers.settings import Settings
from trioworkers.size_guard import SizeGuard
from trioworkers.wire.capsule import Capsule
from trioworkers.wire.own_record import encode_lease

if TYPE_CHECKING:
    from trioworkers.jobs.declarations import Declarations

logger = logging.getLogger("trioworkers")


async def serve(app: Declarations, *, task_status: trio.TaskStatus[Worker] = trio.TASK_STATUS_IGNORED) -> None:
    """See `App.serve`."""
    app.check()
    if elsewhere := noted_elsewhere(app):
        logger.warning("%s", elsewhere)
    session = _session(app)
    with ungrouped():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.run)
            try:
                await session.started.wait()
                task_status.started(session.worker)
                await session.worker.told_to_stop.wait()
            finally:
                # Cancelled or told to stop: the same. The session, shielded, ends by itself, and the nursery waits for it.
                if nursery.cancel_scope.cancel_called:
                    session.tear()
                session.stop()


def _session(app: Declarations) -> Session:
    layout = app.layout
    if layout is None:
        return Session(app)
    from trioworkers.engine.sharded_session import ShardedSession  # noqa: PLC0415 - few apps have several Redises

    return ShardedSession(app, layout)


class Session:
    """One worker's life. Shielded: a cancellation from outside must not reach its Redis clients before its jobs are safe."""

    def __init__(self, app: Declarations) -> None:
        self._app = app
        self._scope = trio.CancelScope(shield=True)
        self.started = trio.Event()
        self._ended = False
        self.worker: Worker

    def stop(self) -> None:
        """Stop the worker as its settings say, or give up starting it."""
        if self.started.is_set():
            if not self.worker.stopping and a_system_task_failed():
                self.worker.stop_for(RuntimeError(SYSTEM_TASK_FAILED))
            self.worker.stop()
            return
        if not self._ended:  # else it failed, and its error says so
            # No more is sure: it may be about to start in this very moment.
            logger.info("stopping before it has started")
        self._scope.cancel()

    def tear(self) -> None:
        """The nursery that it runs in is cancelled. If it hasn't failed, that was a job: nobody else can reach it."""
        if self.started.is_set() and not self._ended and not self.worker.stopping:
            self.worker.stop_for(RuntimeError(why_cancelled()))

    async def run(self) -> None:
        """Open, work, close."""
        try:
            with self._scope:
                await self._live()
        finally:
            self._ended = True

    async def _live(self) -> None:
        app, settings = self._app, self._app.settings
        async with AsyncExitStack() as stack:
            url = await stack.enter_async_context(open_server(settings.redis_url))
            connection = await stack.enter_async_context(
                connect(url, Link(shown_url(url)), namespace=settings.namespace)
            )
            await check(connection)
            broker, self.worker = assemble(app, settings, url, connection)
            await self.worker.check_neighbours()
            resources = await stack.enter_async_context(
                open_resources(Client.around(broker, app.telemetry), app.http, settings.cpu_processes, app.lifespan)
            )
            resources.hold_limit = self.worker.within.hold
            self.worker.tell_of_hosts(resources.hosts)
            stack.enter_context(watching(self.worker.lists, lambda: connection.link.heard_at))
            runner = make_runner(app, self.worker, resources, broker)
            observe(app, self.worker, runner, resources, connection.link)
            run = partial(self.worker.run, runner, self._on_started)
            await run_within(self.worker, run, self.started, self._scope)

    def _on_started(self) -> None:
        logger.info("started: worker %s on %s", self.worker.identity, said_of(self._app.capsules))
        self.started.set()


def make_runner(app: Declarations, worker: Worker, resources: Resources, broker: Broker) -> Runner:
    """What runs the jobs of a worker at one Redis."""
    make = partial(observed, app.observers) if app.observers else Runner
    return make(
        app,
        app.middlewares,
        resources,
        broker.clock.now_s,
        broker.guard,
        app.dialects,
        app.hooks,
        worker.told_to_stop.is_set,
        app.queue_limits,
    )


def observe(app: Declarations, worker: Worker, runner: Runner, resources: SharedResources, link: Any) -> None:
    """Tell who watches this app's workers that one is about to run."""
    if app.telemetry is not None:
        resources.around_call = app.telemetry.call
    if isinstance(runner, ObservedRunner):
        resources.on_call = runner.called
        worker.observers = app.observers
        for observer in app.observers:
            observer.started(worker, link)


async def check(connection: Connection, shard: str = "") -> None:
    """Wait until Redis is there. `shard`: see `check_server`. Raises Refused, with its address, if it won't have us."""
    try:
        await retrying(lambda: check_server(connection, shard), final=(Superseded, Refused))
    except Refused as error:
        raise Refused(f"Redis at {connection.link.address}: {error}") from error


def assemble(
    app: Declarations,
    settings: Settings,
    url: str,
    connection: Connection,
    draws: Mapping[tuple[str, str], Draw] | None = None,
    drained: Collection[str] = (),
) -> tuple[RedisBroker, Worker]:
    """A worker at one Redis. `draws`, `drained`: see `Declared`."""
    identity = current_identity()
    holder = Holder(settings.process_id or str(identity), encode_lease(identity), int(settings.lease * 1000))
    guard = SizeGuard(settings)
    brokers = Brokers(connection, settings.namespace, holder, identity, guard, app.dialect, app.dialects)
    timeout_s = settings.shutdown_timeout
    worker = Worker(
        brokers,
        connection,
        identity,
        app.queues,
        url=url,
        shutdown_timeout_s=timeout_s,
        strict=settings.strict,
        classes={queue: app.classes(queue) for queue in app.queues},
        declared=Declared(app.capsules, app.limits, app.queue_limits, app.unique, draws or {}, drained),
        periodic=app.periodic_jobs,
    )
    return brokers.main, worker


def said_of(capsules: Iterable[Capsule]) -> str:
    """Which queues share how many slots, for people."""
    return ", ".join(f"{_said(each)} ({each.concurrency} at once)" for each in capsules)


def _said(capsule: Capsule) -> str:
    if len(capsule.weights) == 1:
        return next(iter(capsule.weights))
    queues = capsule.weights if capsule.strict else [f"{queue} {weight}" for queue, weight in capsule.weights.items()]
    return (" before " if capsule.strict else " : ").join(queues)
