"""What an app has said, as the engine and the clients ask for it: its options, queues, capsules, handlers, limits, shards.

How it is said is in `declarations.py`.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Self

import attrs

from trioworkers.chosen_redis import APPS
from trioworkers.errors import ConfigurationError
from trioworkers.http import Http
from trioworkers.jobs import periodic
from trioworkers.jobs.context import Context
from trioworkers.jobs.handler import ANY_CLASS, AnyHandler
from trioworkers.jobs.hooks import Hook, Hooks
from trioworkers.jobs.importing import check_not_imported
from trioworkers.jobs.limits import ClassLimit, FleetLimit, Limits
from trioworkers.jobs.middleware import CallNext, Middleware
from trioworkers.jobs.observers import Observer
from trioworkers.jobs.telemetry import Telemetry
from trioworkers.jobs.unique import UniqueClass
from trioworkers.redis_url import at_namespace, parse_redis_url
from trioworkers.settings import DEFAULT_CONCURRENCY, Settings, Unknown, settings
from trioworkers.wire.capsule import Capsule, of_one, why_not
from trioworkers.wire.dialect import Dialect
from trioworkers.wire.dialects import dialect_named
from trioworkers.wire.periodic import Periodic
from trioworkers.wording import counted

if TYPE_CHECKING:
    from trioworkers.jobs.layout import Layout
    from trioworkers.shards import Shard

Lifespan = Callable[[], AbstractAsyncContextManager[Any]]


class Declared:
    """An app's options, and what it has declared so far."""

    def __init__(
        self,
        redis_url: str | None = None,
        *,
        process_id: str | None = None,
        namespace: str | None = None,
        dialect: str | None = None,
        shutdown_timeout: float | None = None,
        lease: float | None = None,
        max_payload_bytes: int | None = None,
        large_payload_bytes: int | None = None,
        cpu_processes: int | None = None,
        unknown: Unknown | None = None,
        strict: bool | None = None,
        lifespan: Lifespan | None = None,
        http: Http | None = None,
        telemetry: Telemetry | None = None,
        shards: Mapping[str, Shard] | None = None,
    ) -> None:
        self._given: dict[str, Any] = {
            "redis_url": redis_url,
            "process_id": process_id,
            "namespace": namespace,
            "dialect": dialect,
            "shutdown_timeout": shutdown_timeout,
            "lease": lease,
            "max_payload_bytes": max_payload_bytes,
            "large_payload_bytes": large_payload_bytes,
            "cpu_processes": cpu_processes,
            "unknown": unknown,
            "strict": strict,
        }
        settings(self._given, {})  # a mistake shows where it was made
        _check_objects(lifespan, http, telemetry)
        self.shards: Mapping[str, Shard] = {}
        """The Redises besides its own over which its queues may be spread, by name."""
        if shards is not None:
            from trioworkers.shards import checked_shards  # noqa: PLC0415 - few apps have several Redises

            self.shards = checked_shards(shards)
        self.queue_shards: dict[str, tuple[str, ...]] = {}
        """The shards of each queue that says so."""
        self._shard: str | None = None
        self._whole: Layout | None = None
        APPS.add(self)
        self.telemetry = telemetry
        self.lifespan = lifespan
        self.http = Http() if http is None else http
        self._concurrency: dict[str, int | None] = {}
        self._capsules: dict[str, Capsule] = {}
        self._only: tuple[Capsule, ...] | None = None
        self._queue_limits: dict[str, FleetLimit] = {}
        self._unknown: dict[str, Unknown] = {}
        self._dialects: dict[str, str] = {}
        self._handlers: dict[tuple[str, str], AnyHandler] = {}
        self._retry_said: dict[str, bool | None] = {}
        self._periodic: list[periodic.Declared] = []
        self._middleware: list[Middleware] = []
        self._on_error: list[Hook] = []
        self._on_death: list[Hook] = []
        self.observers: list[Observer] = []

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {counted(len(self._handlers), 'handler')} on {', '.join(sorted(self.queues)) or 'no queue'}>"

    @property
    def settings(self) -> Settings:
        """What was given to the constructor and to `configure`, else what the environment says, else the defaults."""
        return settings(self._given, os.environ)

    @property
    def redis_named(self) -> str | None:
        """The Redis that the program or the environment names; None if it would be the default."""
        named: str | None = self._given["redis_url"] or os.environ.get("REDIS_URL") or None
        return named

    def configure(self, **options: Any) -> None:
        """Override options of the constructor; None leaves one as it is. For the command line. Raises ConfigurationError."""
        given = self._given | {name: value for name, value in options.items() if value is not None}
        settings(given, {})
        self._given = given
        self._retry_said.clear()

    def narrow(self, capsules: Sequence[Capsule]) -> None:
        """Serve these only. For the command line. Raises ConfigurationError for a queue that the App hasn't, or that two of them have."""
        served, taken = self.queues, dict[str, str]()
        for capsule in capsules:
            if why := why_not(capsule.name, capsule.concurrency, capsule.weights):
                raise ConfigurationError(why)
            for queue in capsule.weights:
                if queue not in served:
                    raise ConfigurationError(
                        f"the App has no queue {queue!r:.80}; it has {', '.join(sorted(served)) or 'none'}"
                    )
                if taken.setdefault(queue, capsule.name) != capsule.name:
                    raise ConfigurationError(
                        f"queue {queue!r} is in two capsules, {taken[queue]!r} and {capsule.name!r}"
                    )
        self._only = tuple(capsules)

    @property
    def queues(self) -> dict[str, int]:
        """For each queue, how many of its jobs may run at once."""
        if self._only is not None:
            return {queue: each.concurrency for each in self._only for queue in each.weights}
        found = {queue: DEFAULT_CONCURRENCY for queue, _ in self._handlers}
        found |= {queue: DEFAULT_CONCURRENCY if told is None else told for queue, told in self._concurrency.items()}
        found |= {queue: each.concurrency for each in self._capsules.values() for queue in each.weights}
        return found

    @property
    def capsules(self) -> tuple[Capsule, ...]:
        """Which queues share slots: each queue is in one capsule, by itself if nothing was said."""
        if self._only is not None:
            return self._only
        shared = {queue for capsule in self._capsules.values() for queue in capsule.weights}
        alone = (of_one(queue, count) for queue, count in self.queues.items() if queue not in shared)
        return (*self._capsules.values(), *alone)

    @property
    def dialect(self) -> Dialect:
        """What is spoken on queues that say nothing else."""
        configured = self.settings
        return dialect_named(configured.dialect, configured.namespace)

    @property
    def dialects(self) -> dict[str, Dialect]:
        """What is spoken on each queue."""
        usual, namespace = self.dialect, self.settings.namespace
        named = {queue: dialect_named(text, namespace) for queue, text in self._dialects.items()}
        return {queue: named.get(queue, usual) for queue in self.queues}

    @property
    def middlewares(self) -> Sequence[Middleware]:
        """The middleware, outermost first."""
        ours = [self._keep_log] if any(handler.keep_log for handler in self._handlers.values()) else []
        traced = [] if self.telemetry is None else [self.telemetry.attempt]
        return (*traced, *ours, *self._middleware)

    def _keep_log(self, ctx: Context, call_next: CallNext) -> Awaitable[Any]:
        from trioworkers.jobs.kept_log import keep_log  # noqa: PLC0415 - few apps have a handler that wants it

        handler = self.find(ctx.job.queue, ctx.job.job_class)
        return keep_log(handler.keep_log, ctx, call_next) if handler and handler.keep_log else call_next()

    @property
    def hooks(self) -> Hooks:
        """Who wants to hear of failures."""
        return Hooks(tuple(self._on_error), tuple(self._on_death))

    @property
    def limits(self) -> dict[str, Limits]:
        """What the classes of each queue declare, of those queues where any does."""
        found: dict[str, dict[str, Sequence[ClassLimit]]] = {}
        for (queue, job_class), handler in self._handlers.items():
            if handler.limits:
                found.setdefault(queue, {})[job_class] = handler.limits
        return dict(found)

    @property
    def queue_limits(self) -> dict[str, FleetLimit]:
        """The limits of queues, of those that have one."""
        return dict(self._queue_limits)

    @property
    def unique(self) -> dict[str, dict[str, UniqueClass]]:
        """What the classes of each queue are unique by, of those queues where any is."""
        found: dict[str, dict[str, UniqueClass]] = {}
        for (queue, job_class), handler in self._handlers.items():
            if handler.unique is not None:
                found.setdefault(queue, {})[job_class] = handler.unique
        return found

    @property
    def periodic_jobs(self) -> Sequence[Periodic]:
        """What is due when, by the code."""
        home, spoken = self.settings.namespace, self.dialects
        entries = [each.entry(spoken[each.handler.queue].keys(home).tag) for each in self._periodic]
        return entries if self._shard is None else [each for each in entries if self._is_ours(each)]

    def _is_ours(self, entry: Periodic) -> bool:
        return self._whole is None or self._whole.place(attrs.evolve(entry.job, jid=entry.name)) == self._shard

    @property
    def layout(self) -> Layout | None:
        """Which queue lies in which shard; None where there is but one Redis. Raises ConfigurationError for what would have to lie in several."""
        if not self.shards or self._shard is not None:
            return None
        from trioworkers.jobs.layout import layout_of  # noqa: PLC0415 - as above

        return layout_of(self)

    def settings_at(self, shard: str) -> Settings:
        """The options of a worker's part at one of the shards."""
        given = self._given
        if shard:
            there = self.shards[shard]
            namespace = self.settings.namespace if there.namespace is None else there.namespace
            given = given | {"redis_url": there.url, "namespace": namespace}
        return settings(given, os.environ)

    def at(self, shard: str) -> Self:
        """The same app as one of its shards has it: with that Redis and namespace."""
        view = copy.copy(self)
        view._shard = shard  # noqa: SLF001 - one of our own
        view._whole = self.layout  # noqa: SLF001 - as above
        if shard:
            there = self.settings_at(shard)
            view._given = self._given | {"redis_url": there.redis_url, "namespace": there.namespace}  # noqa: SLF001 - as above
        view._retry_said = {}  # noqa: SLF001 - as above
        return view

    def find(self, queue: str, job_class: str) -> AnyHandler | None:
        """The handler for a class on a queue."""
        return self._handlers.get((queue, job_class)) or self._handlers.get((queue, ANY_CLASS))

    @property
    def handlers(self) -> Iterable[AnyHandler]:
        """All of them."""
        return self._handlers.values()

    def classes(self, queue: str) -> Sequence[str]:
        """The classes that have a handler on a queue."""
        return [job_class for name, job_class in self._handlers if name == queue]

    def _says_retry(self, queue: str) -> bool | None:
        """What the job of a handler that says nothing of retries says: what is usual. Where that is none, it says nothing, either."""
        if queue not in self._retry_said:
            text = self._dialects.get(queue)
            dialect = self.dialect if text is None else dialect_named(text)
            self._retry_said[queue] = True if dialect.retry is True else None
        return self._retry_said[queue]

    def unknown_on(self, queue: str) -> Unknown:
        """What becomes of jobs on a queue whose class has no handler."""
        return self._unknown.get(queue) or self.settings.unknown

    def check(self) -> None:
        """Raise ConfigurationError if the app has nothing to run, or can't run here."""
        check_not_imported()
        if not self._handlers:
            raise ConfigurationError("the app has no handler: nothing to run")
        idle = set(self.queues) - {queue for queue, _ in self._handlers}
        if idle:
            raise ConfigurationError(f"queue {min(idle)!r} has no handler: its jobs would all fail")
        layout = self.layout
        for each in (self,) if layout is None else map(self.at, layout.names):
            each._check_cluster()  # noqa: SLF001 - one of our own

    def _check_cluster(self) -> None:
        """Raise ConfigurationError if there is a cluster, and our keys would lie in several of its slots."""
        url, namespace = self.settings.redis_url, self.settings.namespace
        if url.startswith("embedded:") or parse_redis_url(url).cluster is None:
            return
        at_namespace(parse_redis_url(url), namespace)
        for queue, dialect in self.dialects.items():
            if dialect.family == "resque" or not dialect.keys(namespace).queue(queue).startswith(namespace):
                raise ConfigurationError(
                    f"queue {queue!r}: {dialect.family}'s workers know no cluster, and its keys would lie in many slots; give it a Redis of its own"
                )


def _check_objects(lifespan: object, http: object, telemetry: object) -> None:
    """Raise ConfigurationError for options that are not what they should be; None is what each may be."""
    if lifespan is not None and not callable(lifespan):
        raise ConfigurationError(f"lifespan is a function that returns an async context manager, not {lifespan!r:.80}")
    if not isinstance(http, Http | None):
        raise ConfigurationError(f"http is Http(…), not {http!r:.80}")
    if telemetry is not None and not callable(getattr(telemetry, "attempt", None)):
        raise ConfigurationError(f"telemetry is OpenTelemetry(), of trioworkers.observe.tracing, not {telemetry!r:.80}")
