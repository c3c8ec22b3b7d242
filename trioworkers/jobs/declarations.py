"""What an app declares: its queues, its handlers by class name, what surrounds them, and its options.

This is all that the engine knows of an app. `App` itself, which is this and how it is run, stands on the street (`trioworkers/app.py`);
so nothing here calls upward. Imports no Trio: a Django site declares the same handlers, and only sends their jobs.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Concatenate, ParamSpec, overload

from trioworkers.errors import ConfigurationError
from trioworkers.http import Http
from trioworkers.jobs.context import Context
from trioworkers.jobs.handler import ANY_CLASS, Handler
from trioworkers.settings import DEFAULT_CONCURRENCY, Settings, Unknown, check_unknown, settings
from trioworkers.wire.dialect import Dialect
from trioworkers.wire.dialects import dialect_named
from trioworkers.wire.keys import is_queue_name
from trioworkers.wording import counted

P = ParamSpec("P")
CallNext = Callable[[], Awaitable[Any]]
Middleware = Callable[[Context, CallNext], Awaitable[Any]]
Lifespan = Callable[[], AbstractAsyncContextManager[Any]]


class _Register:
    """What `app.handler(…)` returns: it makes a function a handler, typed by the function's parameters without the context."""

    def __init__(self, register: Callable[[Callable[..., Any]], Handler[Any]]) -> None:
        self._register = register

    @overload
    def __call__(self, function: Callable[Concatenate[Context, P], Awaitable[object]]) -> Handler[P]: ...

    @overload
    def __call__(self, function: Callable[P, Awaitable[object]]) -> Handler[P]: ...

    def __call__(self, function: Callable[..., Any]) -> Handler[Any]:
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
        self.lifespan = lifespan
        self.http = http or Http()
        self._concurrency: dict[str, int] = {}
        self._unknown: dict[str, Unknown] = {}
        self._dialects: dict[str, str] = {}
        self._handlers: dict[tuple[str, str], Handler[Any]] = {}
        self._middleware: list[Middleware] = []

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {counted(len(self._handlers), 'handler')} on {', '.join(sorted(self.queues)) or 'no queue'}>"

    # ── what users say ─────────────────────────────────────────────────────────────────────────────────────────────────

    def queue(
        self,
        name: str,
        *,
        concurrency: int = DEFAULT_CONCURRENCY,
        unknown: Unknown | None = None,
        dialect: str | None = None,
    ) -> None:
        """Have up to `concurrency` jobs of queue `name` run at once. Raises ConfigurationError.

        `unknown`: what becomes of its jobs whose class has no handler; `dialect`: how its jobs are written. Not given: what the app says.
        """
        _check_queue(name)
        if unknown is not None:
            check_unknown(f"queue {name!r}", unknown)
            self._unknown[name] = unknown
        if not isinstance(concurrency, int) or isinstance(concurrency, bool) or concurrency < 1:
            raise ConfigurationError(f"queue {name!r}: concurrency is a whole number from 1 on, not {concurrency!r}")
        if name in self._concurrency:
            raise ConfigurationError(f"queue {name!r} is declared twice")
        self._concurrency[name] = concurrency
        if dialect is not None:
            dialect_named(dialect)
            self._dialects[name] = dialect

    def handler(
        self,
        queue: str,
        job_class: str | None = None,
        *,
        timeout: float | None = None,
        retry: bool | int | None = None,
        check: bool = True,
    ) -> _Register:
        """Make an async function the handler of `job_class` (default: its own name; "*": any other class) on `queue`.

        `timeout`: seconds after which an attempt is cancelled and counts as failed. `retry`: what counts for jobs that say nothing of
        retries themselves: True (25 times), a number, 0 (none, but kept in the dead set) or False; not given: what is usual in the
        queue's dialect, True in Sidekiq's, 0 in Resque's and go-workers'. `check=False`: `handler.job(…)` doesn't look at the types of arguments.
        Raises ConfigurationError, also for a parameter that no job's JSON could become, or whose annotation nobody would obey.
        """
        _check_queue(queue)
        if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, int | float) or timeout <= 0):
            raise ConfigurationError(f"handler on queue {queue!r}: timeout is a number of seconds, not {timeout!r}")
        if not isinstance(retry, int | None):
            raise ConfigurationError(f"handler on queue {queue!r}: retry is True, False or a number, not {retry!r}")

        if not isinstance(check, bool):
            raise ConfigurationError(f"handler on queue {queue!r}: check is True or False, not {check!r}")

        def register(function: Callable[..., Any]) -> Handler[Any]:
            plain = function.function if isinstance(function, Handler) else function
            name: str = job_class or str(getattr(plain, "__name__", ""))
            handler: Handler[Any] = Handler(plain, queue, name, timeout=timeout, retry=retry, check=check)
            other = self._handlers.get((queue, name))
            if other is not None:
                raise ConfigurationError(f"{handler.where}: {other.__name__} takes this class already")
            self._handlers[queue, name] = handler
            return handler

        return _Register(register)

    def middleware(self, function: Middleware) -> Middleware:
        """Put `async def m(ctx, call_next)` around every attempt; the first one registered is outermost. Raises ConfigurationError."""
        if not inspect.iscoroutinefunction(function):
            raise ConfigurationError(f"middleware {getattr(function, '__name__', function)!r} is no async function")
        self._middleware.append(function)
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

    @property
    def queues(self) -> dict[str, int]:
        """Concurrency of each queue."""
        return {queue: DEFAULT_CONCURRENCY for queue, _ in self._handlers} | self._concurrency

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
        return tuple(self._middleware)

    def find(self, queue: str, job_class: str) -> Handler[Any] | None:
        """The handler for a class on a queue."""
        return self._handlers.get((queue, job_class)) or self._handlers.get((queue, ANY_CLASS))

    def classes(self, queue: str) -> Sequence[str]:
        """The classes that have a handler on a queue."""
        return [job_class for name, job_class in self._handlers if name == queue]

    def unknown_on(self, queue: str) -> Unknown:
        """What becomes of jobs on a queue whose class has no handler."""
        return self._unknown.get(queue) or self.settings.unknown

    def check(self) -> None:
        """Raise ConfigurationError if there is nothing to run."""
        if not self._handlers:
            raise ConfigurationError("the app has no handler: nothing to run")
        idle = set(self._concurrency) - {queue for queue, _ in self._handlers}
        if idle:
            raise ConfigurationError(f"queue {min(idle)!r} has no handler: its jobs would all fail")


def _check_queue(name: object) -> None:
    if callable(name):  # @app.handler, without more
        raise ConfigurationError('a handler says its queue: @app.handler("default")')
    if not is_queue_name(name):
        raise ConfigurationError(f"a queue's name has at most 128 letters, digits or _.:- , not {name!r}")
