"""App: a program's queues, its handlers by class name, and what surrounds them."""

from __future__ import annotations

import inspect
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, overload

import trio

from trioworkers.errors import ConfigurationError
from trioworkers.http import Http
from trioworkers.jobs.context import Context
from trioworkers.jobs.handler import ANY_CLASS, Handler
from trioworkers.settings import DEFAULT_CONCURRENCY, Settings, Unknown, check_unknown, settings
from trioworkers.wire.dialect import Dialect
from trioworkers.wire.dialects import dialect_named
from trioworkers.wire.keys import is_queue_name
from trioworkers.wording import counted

if TYPE_CHECKING:
    from trioworkers.engine.runner import Middleware
    from trioworkers.engine.worker import Worker

P = ParamSpec("P")
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


class App:
    """Queues and handlers, and how to run them.

    `redis_url`: redis://, rediss://, unix:// or embedded:; not given: REDIS_URL, or redis://localhost:6379/0. `process_id`: a name
    for this worker that it keeps over restarts; not given: a new one each time. `namespace`: goes before all keys. `dialect`: whose
    jobs are run and sent, "sidekiq", "resque" or "goworkers"; "resque:prod" for another namespace than that family's usual one.
    `shutdown_timeout`, `lease`: seconds, see `Settings`. `lifespan`: a function that returns an async context manager; what it
    yields is `ctx.state`. `http`: options of the shared HTTP client. `unknown`: what becomes of jobs whose class has no handler here:
    "retry" (they fail like any other), "dead", or "leave" (others may have them: back after a delay, no attempt charged).
    `strict`: don't run on a queue from which another kind of worker fetches. Raises ConfigurationError.
    """

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
        return f"<App: {counted(len(self._handlers), 'handler')} on {', '.join(sorted(self.queues)) or 'no queue'}>"

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
        self, queue: str, job_class: str | None = None, *, timeout: float | None = None, retry: bool | int | None = None
    ) -> _Register:
        """Make an async function the handler of `job_class` (default: its own name; "*": any other class) on `queue`.

        `timeout`: seconds after which an attempt is cancelled and counts as failed. `retry`: what counts for jobs that say nothing of
        retries themselves: True (25 times), a number, 0 (none, but kept in the dead set) or False; not given: what is usual in the
        queue's dialect, True in Sidekiq's, 0 in Resque's and go-workers'. Raises ConfigurationError.
        """
        _check_queue(queue)
        if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, int | float) or timeout <= 0):
            raise ConfigurationError(f"handler on queue {queue!r}: timeout is a number of seconds, not {timeout!r}")
        if not isinstance(retry, int | None):
            raise ConfigurationError(f"handler on queue {queue!r}: retry is True, False or a number, not {retry!r}")

        def register(function: Callable[..., Any]) -> Handler[Any]:
            plain = function.function if isinstance(function, Handler) else function
            name: str = job_class or str(getattr(plain, "__name__", ""))
            handler: Handler[Any] = Handler(plain, queue, name, timeout=timeout, retry=retry)
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

    # ── how it runs ────────────────────────────────────────────────────────────────────────────────────────────────────

    def run(self) -> None:
        """Run a worker until it is stopped; handles Unix signals. Blocks. Raises as `serve` does."""
        from trioworkers.process.run import run  # noqa: PLC0415 - who only enqueues needs no engine

        run(self)

    async def serve(self, *, task_status: trio.TaskStatus[Worker] = trio.TASK_STATUS_IGNORED) -> None:
        """Run a worker inside your own Trio program; signals are yours. `worker = await nursery.start(app.serve)`.

        Cancelled, it stops as by TERM: it fetches no more, gives running jobs the shutdown timeout, puts back the rest and returns.
        Raises ConfigurationError, Refused (Redis won't have us), Superseded (the process id is taken) or, if strict, SharedQueue.
        """
        from trioworkers.engine.serve import serve  # noqa: PLC0415 - as above

        await serve(self, task_status)

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
