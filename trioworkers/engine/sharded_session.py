"""Opens everything that a worker with several Redises needs, runs it, and closes it in reverse. See `serve.py`, which does so for one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from trioworkers.broker.apart import Doors, Place
from trioworkers.broker.moves import RedisBroker
from trioworkers.broker.redis.connection import Connection, connect
from trioworkers.broker.redis.link import Link, UnloggedLink
from trioworkers.broker.redis.server import open_server
from trioworkers.broker.shard_outbox import ShardOutbox
from trioworkers.broker.sharded_sends import ShardedSends
from trioworkers.engine.forwarding import Forwarder
from trioworkers.engine.runner import Runner
from trioworkers.engine.serve import Session, assemble, check, make_runner, observe, said_of
from trioworkers.engine.sharded_worker import Part, ShardedWorker, shared_draws
from trioworkers.engine.watchdog import watching
from trioworkers.engine.within_lifespan import run_within
from trioworkers.engine.worker import Worker
from trioworkers.jobs.client import Client
from trioworkers.jobs.layout import Layout
from trioworkers.jobs.resources import SharedResources, open_resources
from trioworkers.redis_url import shown_url
from trioworkers.shards import called
from trioworkers.wire.keys import Keys

if TYPE_CHECKING:
    import httpx

    from trioworkers.jobs.declarations import Declarations
    from trioworkers.jobs.limits import FleetLimit
    from trioworkers.wire.job import Job

logger = logging.getLogger("trioworkers")

T = TypeVar("T")


@attrs.frozen
class _Side:
    """One Redis, opened: `app` as it is there."""

    app: Declarations
    connection: Connection
    broker: RedisBroker
    worker: Worker


class ShardedSession(Session):
    """One worker's life, with several Redises."""

    def __init__(self, app: Declarations, layout: Layout) -> None:
        super().__init__(app)
        self._layout = layout

    async def _live(self) -> None:
        app, layout = self._app, self._layout
        drained = {name: [queue for queue in app.queues if name not in layout.of(queue)] for name in layout.names}
        draws = shared_draws(app.capsules, app.queue_limits, drained)
        async with AsyncExitStack() as stack:
            sides, doors = {}, Doors()
            for name in layout.names:
                make = partial(assemble, draws=draws[name], drained=drained[name])
                sides[name] = await self._open(stack, name, make, doors)
            senders = {name: side.broker for name, side in sides.items()}
            client = Client.around(ShardedSends(senders, layout), app.telemetry)
            resources = await stack.enter_async_context(
                open_resources(client, app.http, app.settings.cpu_processes, app.lifespan)
            )
            parts, runners = {}, []
            for name, side in sides.items():
                here = _Here(
                    resources,
                    Client.around(ShardedSends(senders, layout, here=name), app.telemetry),
                    partial(self._hold, name, side.worker),
                )
                runners.append(make_runner(side.app, side.worker, here, side.broker))
                parts[name] = self._part(name, side, runners[-1])
            outboxes = {name: ShardOutbox(name, senders, layout) for name in sides}
            for name, side in sides.items():
                side.worker.send_elsewhere(outboxes[name])
            self.worker = worker = ShardedWorker(parts, [Forwarder(name, outboxes).run for name in sides])
            worker.tell_of_hosts(resources.hosts)
            observe(app, worker, runners[0], resources, _Links([side.connection.link for side in sides.values()]))
            stack.enter_context(
                watching(worker.lists, lambda: max(side.connection.link.heard_at for side in sides.values()))
            )
            await run_within(worker, partial(worker.serve, self._on_shard), self.started, self._scope)

    async def _open(
        self, stack: AsyncExitStack, name: str, make: Callable[..., tuple[RedisBroker, Worker]], doors: Doors
    ) -> _Side:
        app = self._app.at(name)
        settings = app.settings
        url = await stack.enter_async_context(open_server(settings.redis_url))
        link = Link(shown_url(url))
        if self._may_be_another(name, settings.namespace):
            besides = await stack.enter_async_context(
                connect(url, UnloggedLink(link.address), namespace=settings.namespace)
            )
            place = Place(called(name), link.address, partial(_ask_anew, besides), Keys(settings.namespace))
            link.door = doors.add(place, link)
        connection = await stack.enter_async_context(connect(url, link, namespace=settings.namespace))
        return _Side(app, connection, *make(app, settings, url, connection))

    def _may_be_another(self, name: str, namespace: str) -> bool:
        """Whether another shard has the same namespace: then it may be the same place."""
        return any(self._app.at(other).settings.namespace == namespace for other in self._layout.names if other != name)

    def _part(self, name: str, side: _Side, runner: Runner) -> Part:
        async def begin() -> None:
            await check(side.connection, called(name))
            await side.worker.check_neighbours()

        return Part(side.worker, begin, partial(side.worker.run, runner), lambda: side.connection.link.heard_at)

    def _hold(
        self, name: str, worker: Worker, job: Job, limit: str | FleetLimit, key: Any
    ) -> AbstractAsyncContextManager[None]:
        self._layout.check_limit(name, job, limit, key)
        return worker.within.hold(job, limit, key)

    def _on_shard(self, name: str) -> None:
        worker, queues = self.worker, said_of(self._app.capsules)
        logger.info("started: worker %s at %s on %s", worker.identity, called(name), queues)
        self.started.set()


async def _ask_anew(connection: Connection, *words: Any) -> Any:
    """Where its address leads now, which may be elsewhere since it was last asked."""
    try:
        return await connection.execute("apart", *words)
    finally:
        connection.renew()


@attrs.frozen
class _Links:
    """What is known of all its Redises together."""

    _links: Sequence[Link]

    @property
    def outages(self) -> int:
        """How often one of them was away."""
        return sum(link.outages for link in self._links)

    @property
    def is_up(self) -> bool:
        """Whether all of them answer."""
        return all(link.is_up for link in self._links)


@attrs.frozen
class _Here:
    """What jobs at one shard may borrow: all that is shared, a client that finds what belongs to them here, and the limits that lie here."""

    _shared: SharedResources
    client: Client
    limit: Callable[[Job, str | FleetLimit, Any], AbstractAsyncContextManager[None]]

    @property
    def http(self) -> httpx.AsyncClient:
        """See `SharedResources.http`."""
        return self._shared.http

    @property
    def state(self) -> Any:
        """What the app's lifespan yielded."""
        return self._shared.state

    async def run_cpu(self, function: Callable[..., T], *args: Any) -> T:
        """See `Context.run_cpu`."""
        return await self._shared.run_cpu(function, *args)
