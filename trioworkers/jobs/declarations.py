"""What an app declares: its queues, its handlers by class name, what surrounds them, and its options.

With what it was told (`declared.py`) this is all that the engine knows of an app. `App` itself, which is this and how it is run, stands on the street (`trioworkers/app.py`);
so nothing here calls upward. Imports no Trio: a Django site declares the same handlers, and only sends their jobs.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, overload

import attrs

from trioworkers.errors import ConfigurationError
from trioworkers.jobs import periodic
from trioworkers.jobs.context import Context
from trioworkers.jobs.declared import Declared
from trioworkers.jobs.handler import ANY_CLASS, AnyHandler, Handler
from trioworkers.jobs.hooks import Hook, checked_hook
from trioworkers.jobs.limits import FleetLimit, checked_limits, checked_queue_limit
from trioworkers.jobs.middleware import Middleware
from trioworkers.jobs.options import check_carried, checked, checked_finished, checked_log
from trioworkers.jobs.unique import AnyUnique, checked_unique
from trioworkers.printable import shown
from trioworkers.settings import Unknown, check_unknown
from trioworkers.wire.capsule import Capsule, why_no_concurrency, why_not
from trioworkers.wire.dialects import dialect_named
from trioworkers.wire.keys import is_queue_name

if TYPE_CHECKING:
    from trioworkers.missed_ticks import Missed, Overlap

P = ParamSpec("P")
R = TypeVar("R")
M = TypeVar("M", bound=Middleware)
H = TypeVar("H", bound=Hook)


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


class Declarations(Declared):
    """The declaring half of `App`, which says what each option means."""

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
        """Run up to `concurrency` jobs of queue `name` at once (default: 10). Raises ConfigurationError.

        - `unknown`: what becomes of its jobs whose class has no handler. Default: the app's setting.
        - `dialect`: the format of its jobs. Default: the app's setting.
        - `limit`: how many of its jobs run at once, or start, over all workers. Jobs that may not run yet stay in the queue. Queues whose limits
          have the same name share the limit.
        - `shards`: the App's shards over which its jobs are spread. Default: its jobs are in the App's own Redis.
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
        if concurrency is not None and (why := why_no_concurrency(concurrency)):
            raise ConfigurationError(f"queue {name!r}: {why}")
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
        """Run up to `concurrency` jobs of several queues at once: they share slots. Raises ConfigurationError.

        `queues`: a dict of weights, or a list. Under full load the weights say which share of the slots each queue has. A queue without jobs leaves its share to the others. A
        list is a strict order: a later queue gets only slots that the earlier ones don't need.
        """
        if why := why_not(name, concurrency, queues):
            raise ConfigurationError(f"capsule {shown(name)}: {why}")
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

        - `timeout`: seconds. Then an attempt is cancelled and counts as failed.
        - `retry`: True (25 times), a number, 0 (no retry, but kept in the dead set) or False (no retry, not kept). It holds for the handler's own jobs, and for jobs of
          others that don't say `retry`. Default: True for Sidekiq's jobs, 0 for Resque's and go-workers'.
        - `expires_in`, `keep_result`: as in `Job`, for the same jobs.
        - `retry_for`, `retry_queue`, `backtrace`, `dead`, `tags`: as in `Job`. They are written into the jobs that `handler.job(…)` builds, as Ruby
          does with `sidekiq_options`.
        - `check=False`: `handler.job(…)` doesn't check the types of the arguments.
        - `limit`: a bound for the jobs that run at once, or start, over all workers. With a list, all of its limits hold.
        - `unique`: `Unique(…)`, `Debounce(…)` or `Throttle(…)`: only one job of a kind at a time.
        - `keep_finished`: for how many jobs we keep how they ended; 10,000 at most.
        - `keep_log`: how many of the last log lines of each attempt we keep; at most 1,000 lines and 32 KB.

        Raises ConfigurationError. It is also raised for a parameter that can't be read from JSON, and for an annotation that would have no effect.
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
        """Send the handler's job, with `args`, whenever `expression` is due. Write it above `@app.handler(…)`.

        - `expression`: five fields of cron, also with names; or six fields, with seconds first; or `@hourly` and the like; or `@every 10s`.
        - `tz`: an IANA zone.
        - `missed`: which ticks are sent late if no worker was there. "one": the newest, if it is at most `within` seconds late. "all": the newest hundred, the oldest
          of them first. "skip": none; a tick is sent at most a minute late.
        - `overlap`: whether a run may begin while the previous one waits or runs. "allow": it may. "skip": there is no run then. "wait": it waits for the end of the previous run.
        - `jitter`: a run begins up to so many seconds later. The delay depends on the tick.
        - `name`: needed for a second entry on the same handler.

        Each tick is sent by one worker of the fleet. `ctx.tick` is the moment at which a run was due. Raises ConfigurationError.
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
        """Call `async def h(ctx, error)` for every attempt that failed, also for unknown classes and bad arguments. Raises ConfigurationError.

        It is called after the outcome is decided, and before it is written. It has 10 seconds. If it raises, the error is logged.
        """
        checked_hook("on_error", function)
        self._on_error.append(function)
        return function

    def on_death(self, function: H) -> H:
        """Call `async def h(ctx, error)` for every job that goes to the dead set: it was given up, or three workers died under it (WorkerDied).

        It is called like `on_error`, and after it. For WorkerDied it is called when the job is already in the dead set. It isn't called for jobs that people bury. Raises ConfigurationError.
        """
        checked_hook("on_death", function)
        self._on_death.append(function)
        return function

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


def _shares(queue: str, capsule: str) -> str:
    return f"queue {queue!r} is in capsule {capsule!r}: it has no concurrency of its own; say it there"


def _said(limit: FleetLimit) -> str:
    return f"{limit.spec}{'' if limit.by is None else f' for each {limit.by}'}"


def _check_queue(name: object) -> None:
    if callable(name):  # @app.handler, without more
        raise ConfigurationError('a handler says its queue: @app.handler("default")')
    if not is_queue_name(name):
        raise ConfigurationError(f"a queue's name has at most 128 letters, digits or _.:- , not {name!r}")
