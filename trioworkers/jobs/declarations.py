"""What an app declares: its queues, its handlers by class name, what surrounds them, and its options.

This is all that the engine knows of an app. `App` itself, which is this and how it is run, stands on the street (`trioworkers/app.py`);
so nothing here calls upward. Imports no Trio: a Django site declares the same handlers, and only sends their jobs.
"""

from __future__ import annotations

import copy
import inspect
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, Self, TypeVar, overload

import attrs

from trioworkers.chosen_redis import APPS
from trioworkers.errors import ConfigurationError
from trioworkers.http import Http
from trioworkers.jobs import periodic
from trioworkers.jobs.context import Context
from trioworkers.jobs.handler import ANY_CLASS, AnyHandler, Handler
from trioworkers.jobs.hooks import Hook, Hooks, checked_hook
from trioworkers.jobs.importing import check_not_imported
from trioworkers.jobs.limits import ClassLimit, FleetLimit, Limits, checked_limits, checked_queue_limit
from trioworkers.jobs.observers import Observer
from trioworkers.jobs.options import check_carried, checked, checked_finished, checked_log
from trioworkers.jobs.telemetry import Telemetry
from trioworkers.jobs.unique import AnyUnique, UniqueClass, checked_unique
from trioworkers.redis_url import at_namespace, parse_redis_url
from trioworkers.settings import DEFAULT_CONCURRENCY, Settings, Unknown, check_unknown, settings
from trioworkers.wire.capsule import Capsule, of_one, why_not
from trioworkers.wire.dialect import Dialect
from trioworkers.wire.dialects import dialect_named
from trioworkers.wire.keys import is_queue_name
from trioworkers.wire.periodic import Periodic
from trioworkers.wording import counted

if TYPE_CHECKING:
    from trioworkers.jobs.layout import Layout
    from trioworkers.missed_ticks import Missed, Overlap
    from trioworkers.shards import Shard

P = ParamSpec("P")
R = TypeVar("R")
M = TypeVar("M", bound="Middleware")
H = TypeVar("H", bound=Hook)
Lifespan = Callable[[], AbstractAsyncContextManager[Any]]


class CallNext(Protocol):
    """What a middleware awaits once, to have the attempt itself run. Raises what the attempt raises."""

    def __call__(self) -> Awaitable[Any]:
        """Run it."""


class Middleware(Protocol):
    """An async function around every attempt, `async def m(ctx, call_next)`."""

    def __call__(self, ctx: Context, call_next: CallNext, /) -> Awaitable[Any]:
        """Do something before and after `await call_next()`."""


class _Register:
    """What `app.handler(…)` returns: it makes a function a handler, typed by the function's parameters without the context."""

    def __init__(self, register: Callable[[Callable[..., Any]], AnyHandler]) -> None:
        self._register = register

    @overload
    def __call__(
        self, function: Callable[Concatenate[Context, P], Awaitable[R]]
    ) -> Handler[P, Concatenate[Context, P], R]: ...

    @overload
    def __call__(self, function: Callable[P, Awaitable[R]]) -> Handler[P, P, R]: ...

    def __call__(self, function: Callable[..., Any]) -> AnyHandler:
        """Register `function`."""
        return self._register(function)


class Declarations:
    """The declaring half of `App`, which says what each option means."""

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
        if lifespan is not None and not callable(lifespan):
            raise ConfigurationError(
                f"lifespan is a function that returns an async context manager, not {lifespan!r:.80}"
            )
        if not isinstance(http, Http | None):
            raise ConfigurationError(f"http is Http(…), not {http!r:.80}")
        if telemetry is not None and not callable(getattr(telemetry, "attempt", None)):
            raise ConfigurationError(
                f"telemetry is OpenTelemetry(), of trioworkers.observe.tracing, not {telemetry!r:.80}"
            )
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

    # ── what users say ─────────────────────────────────────────────────────────────────────────────────────────────────

    def queue(
        self,
        name: str,
        *,
        concurrency: int | None = None,
        unknown: Unknown | None = None,
        dialect: str | None = None,
        limit: FleetLimit | None = None,
        shards: Sequence[str] | None = None,
    ) -> None:
        """Have up to `concurrency` jobs of queue `name` run at once (10 if it isn't given). Raises ConfigurationError.

        `unknown`: what becomes of its jobs whose class has no handler; `dialect`: how its jobs are written. Not given: what the app says.
        `limit`: how many of its jobs run at once, or start, over all workers; what may not run yet stays in the queue. Queues whose limits
        have one name share it. `shards`: over which of the App's shards its jobs are spread; not given: they lie in the App's own Redis.
        """
        _check_queue(name)
        spread = self._checked_shards(name, shards)
        fleet = checked_queue_limit(name, limit)
        other = next((each for each in self._queue_limits.values() if fleet and each.name == fleet.name), fleet)
        if fleet is not None and other is not None and other.spec != fleet.spec:
            raise ConfigurationError(
                f"queue {name!r}: limit {fleet.name!r} is {fleet.spec} here and {other.spec} elsewhere"
            )
        if unknown is not None:
            check_unknown(f"queue {name!r}", unknown)
            self._unknown[name] = unknown
        if concurrency is not None and (
            not isinstance(concurrency, int) or isinstance(concurrency, bool) or concurrency < 1
        ):
            raise ConfigurationError(f"queue {name!r}: concurrency is a whole number from 1 on, not {concurrency!r}")
        if name in self._concurrency:
            raise ConfigurationError(f"queue {name!r} is declared twice")
        capsule = next((each.name for each in self._capsules.values() if name in each.weights), None)
        if concurrency is not None and capsule is not None:
            raise ConfigurationError(_shares(name, capsule))
        self._concurrency[name] = concurrency
        if spread is not None:
            self.queue_shards[name] = spread
        if fleet is not None:
            self._queue_limits[name] = fleet
        if dialect is not None:
            dialect_named(dialect)
            self._dialects[name] = dialect
            self._retry_said.clear()

    def _checked_shards(self, queue: str, shards: object) -> tuple[str, ...] | None:
        if shards is None:
            return None
        from trioworkers.shards import checked_names  # noqa: PLC0415 - as above

        return checked_names(queue, shards, self.shards)

    def capsule(self, name: str, *, concurrency: int, queues: Mapping[str, int] | Sequence[str]) -> None:
        """Have up to `concurrency` jobs of several queues run at once, in one pool of slots. Raises ConfigurationError.

        `queues`: a dict of weights, by which slots are shared under full load; who has nothing to do leaves its share to the others. A
        list is a strict order: a later queue gets what the earlier ones don't need, and nothing while they need all.
        """
        if why := why_not(name, concurrency, queues):
            raise ConfigurationError(f"capsule {name!r:.80}: {why}")
        if name in self._capsules:
            raise ConfigurationError(f"capsule {name!r} is declared twice")
        for queue in queues:
            _check_queue(queue)
        weights = dict(queues) if isinstance(queues, Mapping) else dict.fromkeys(queues, 1)
        for queue in queues:
            other = next((each.name for each in self._capsules.values() if queue in each.weights), None)
            if other is not None:
                raise ConfigurationError(f"queue {queue!r} is in two capsules, {other!r} and {name!r}")
            if self._concurrency.get(queue) is not None:
                raise ConfigurationError(_shares(queue, name))
        self._capsules[name] = Capsule(name, concurrency, weights, strict=not isinstance(queues, Mapping))

    def handler(
        self,
        queue: str,
        job_class: str | None = None,
        *,
        timeout: float | None = None,
        retry: bool | int | None = None,
        retry_for: float | None = None,
        retry_queue: str | None = None,
        backtrace: bool | int | None = None,
        dead: bool | None = None,
        tags: Sequence[str] | None = None,
        expires_in: float | None = None,
        keep_result: float | None = None,
        check: bool = True,
        limit: FleetLimit | Sequence[FleetLimit] | None = None,
        unique: AnyUnique | None = None,
        keep_finished: int | None = None,
        keep_log: int | None = None,
    ) -> _Register:
        """Make an async function the handler of `job_class` (default: its own name; "*": any other class) on `queue`.

        `timeout`: seconds after which an attempt is cancelled and counts as failed. `retry`: True (25 times), a number, 0 (none, but kept
        in the dead set) or False, for its own jobs and for those that say nothing of retries themselves; not given: what is usual in the
        queue's dialect, True in Sidekiq's, 0 in Resque's and go-workers'. `expires_in`, `keep_result`: likewise, what `Job` means by them.
        `retry_for`, `retry_queue`, `backtrace`, `dead`, `tags`: carried by the jobs that this handler builds (`handler.job(…)`), as Ruby's
        carry their class's `sidekiq_options`. `check=False`: `handler.job(…)` doesn't look at the types of its arguments.
        `limit`: at most so many of its jobs run at once over all workers; a list: under all of them.
        `unique`: `Unique(…)`, `Debounce(…)` or `Throttle(…)`: of which of its jobs there is but one.
        `keep_finished`: of how many of its jobs it is kept how they ended, the newest ones; 10,000 at most.
        `keep_log`: so many of the last log lines of each attempt are kept for people to see, 1,000 and 32 KB at most.
        Raises ConfigurationError, also for a parameter that no job's JSON could become, or whose annotation nobody would obey.
        """
        _check_queue(queue)
        if job_class is not None and not (isinstance(job_class, str) and job_class):
            raise ConfigurationError(f"handler on queue {queue!r}: a job's class is a name, not {job_class!r:.80}")
        carried = {
            "retry": retry,
            "retry_for": retry_for,
            "retry_queue": retry_queue,
            "backtrace": backtrace,
            "dead": dead,
            "tags": tags,
            "expires_in": expires_in,
            "keep_result": keep_result,
        }
        where = f"handler on queue {queue!r}"
        options = attrs.evolve(
            checked(where, timeout, check, carried),
            limits=checked_limits(where, limit),
            unique=checked_unique(where, unique),
            keep_finished=checked_finished(where, keep_finished, is_of_every_class=job_class == ANY_CLASS),
            keep_log=checked_log(where, keep_log),
        )
        if job_class == ANY_CLASS:
            check_carried(where, options)

        def register(function: Callable[..., Any]) -> AnyHandler:
            plain = function.function if isinstance(function, Handler) else function
            name: str = job_class or str(getattr(plain, "__name__", ""))
            handler: AnyHandler = Handler(plain, queue, name, options, partial(self._says_retry, queue))
            self._check_limits(handler)
            other = self._handlers.get((queue, name))
            if other is not None:
                raise ConfigurationError(f"{handler.where}: {other.__name__} takes this class already")
            self._handlers[queue, name] = handler
            return handler

        return _Register(register)

    def periodic(
        self,
        expression: str,
        *,
        tz: str = "UTC",
        args: Sequence[Any] = (),
        missed: Missed = "one",
        within: float = 3600.0,
        overlap: Overlap = "allow",
        jitter: float = 0.0,
        name: str | None = None,
    ) -> periodic.Register:
        """Send the handler's job, with `args`, whenever `expression` is due: stands above `@app.handler(…)`.

        `expression`: five fields of cron, or six with seconds first, names included; `@hourly` and the like; `@every 10s`. `tz`: an IANA zone. One worker of the fleet
        sends each tick, in one step with the next. `missed`: of the ticks at which no worker was there "one" is made up for (the newest, if it
        is no more than `within` seconds late), "all" (the newest hundred, oldest first), or none ("skip": at most a minute late). `overlap`: whether a run may begin while
        the one before waits or runs: "allow", "skip" (then it is none), "wait" (one waits for that one's end). `jitter`: up to so many seconds later, by tick. `name`: for a second
        one on the same handler. `ctx.tick` is the moment at which a run was due. Raises ConfigurationError.
        """
        where = periodic.caller()
        if not isinstance(expression, str):  # @app.periodic without brackets, which would register nothing
            raise ConfigurationError(
                f"{where}: @app.periodic takes an expression, like '0 4 * * *', not {expression!r:.80}"
            )
        said = {"zone": tz, "missed": missed, "within_s": within, "overlap": overlap, "jitter_s": jitter}

        def register(handler: object) -> None:
            self._periodic.append(periodic.declared(where, handler, expression, args, name, self._periodic, **said))

        return periodic.Register(register)

    def middleware(self, function: M) -> M:
        """Put `async def m(ctx, call_next)` around every attempt; the first one registered is outermost. Raises ConfigurationError."""
        is_async: bool = inspect.iscoroutinefunction(function)
        if not is_async:
            raise ConfigurationError(f"middleware {getattr(function, '__name__', function)!r} is no async function")
        self._middleware.append(function)
        return function

    def on_error(self, function: H) -> H:
        """Have `async def h(ctx, error)` told of every attempt that failed, also of unknown classes and bad arguments. Raises ConfigurationError.

        It is called when it is decided what becomes of the job, and before that is written. It has 10 seconds; what it raises is logged.
        """
        checked_hook("on_error", function)
        self._on_error.append(function)
        return function

    def on_death(self, function: H) -> H:
        """Have `async def h(ctx, error)` told of every job that goes to the dead set: given up, or three workers died under it (WorkerDied).

        Called like `on_error`, after it; for WorkerDied when the job is there. Not of what people bury. Raises ConfigurationError.
        """
        checked_hook("on_death", function)
        self._on_death.append(function)
        return function

    # ── what the engine asks ───────────────────────────────────────────────────────────────────────────────────────────

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
        """Of each queue, how many of its jobs may run at once."""
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

    def _check_limits(self, handler: AnyHandler) -> None:
        """Raise ConfigurationError if a limit of this name is another one elsewhere in the app."""
        known = {each.limit.name: (each.limit, owner) for owner in self._handlers.values() for each in owner.limits}
        for limit in (each.limit for each in handler.limits):
            other, who = known.get(limit.name, (limit, handler))
            if (other.spec, other.by is None) != (
                limit.spec,
                limit.by is None,
            ):  # the argument may be called otherwise there
                raise ConfigurationError(
                    f"{handler.where}: limit {limit.name!r} is {_said(limit)} here and {_said(other)} in {who.where}"
                )

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
        """Raise ConfigurationError if there is nothing to run, or this is no place to run it."""
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


def _shares(queue: str, capsule: str) -> str:
    return f"queue {queue!r} is in capsule {capsule!r}: it has no concurrency of its own; say it there"


def _said(limit: FleetLimit) -> str:
    return f"{limit.spec}{'' if limit.by is None else f' for each {limit.by}'}"


def _check_queue(name: object) -> None:
    if callable(name):  # @app.handler, without more
        raise ConfigurationError('a handler says its queue: @app.handler("default")')
    if not is_queue_name(name):
        raise ConfigurationError(f"a queue's name has at most 128 letters, digits or _.:- , not {name!r}")
