"""A handler: the user's async function, its class and queue, and the jobs that it builds for itself."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Generic, ParamSpec

from trioworkers.jobs.binding import bind, signature
from trioworkers.wire.job import Job

P = ParamSpec("P")
ANY_CLASS = "*"


class Handler(Generic[P]):
    """What `@app.handler` makes of a function: it can still be called as the plain function that it is.

    `job(*args)` builds a job for it, typed by the function's own signature without the context.
    """

    def __init__(
        self,
        function: Callable[..., Awaitable[object]],
        queue: str,
        job_class: str,
        *,
        timeout: float | None = None,
        retry: bool | int | None = None,
    ) -> None:
        self.function = function
        self.queue = queue
        self.job_class = job_class
        self.timeout_s = timeout
        self.retry = retry
        self.__name__ = getattr(function, "__name__", job_class)
        self.__qualname__ = getattr(function, "__qualname__", job_class)
        self.__doc__ = function.__doc__
        self.__module__ = function.__module__
        self.__wrapped__ = function
        self._signature = signature(function, self.where)
        self.wants_context = self._signature.context is not None

    @property
    def where(self) -> str:
        """How errors name this handler."""
        return f"handler {self.__name__} (class {self.job_class!r} on queue {self.queue!r})"

    def __call__(self, *args: Any, **kwargs: Any) -> Awaitable[object]:
        """Call the plain function."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<{self.where}>"

    def job(self, *args: P.args, **kwargs: P.kwargs) -> Job:
        """A job for this handler, its arguments by position or name. Raises TypeError like a call with wrong arguments."""
        self._check_call(args, kwargs)
        values = list(args)
        for parameter in self._signature.positional[len(args) :]:
            if parameter.name not in kwargs:
                break
            values.append(kwargs[parameter.name])
        if len(values) != len(args) + len(kwargs):
            raise TypeError(
                f"{self.where}: arguments of a Sidekiq job travel by position; give all that come before {set(kwargs)}, "
                "or build an ActiveJob job with .active_job(…)"
            )
        return Job(self.queue, self.job_class, values)

    def active_job(self, *args: P.args, **kwargs: P.kwargs) -> Job:
        """Like `job`, but a job of Rails' ActiveJob, whose arguments travel by position or by name, as given."""
        self._check_call(args, kwargs)
        return Job(self.queue, self.job_class, args, kwargs=kwargs, active_job=True)

    def _check_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.job_class == ANY_CLASS:
            raise TypeError(f"{self.where} takes every class; build a Job that names one")
        inspect.signature(self.function).bind(*([None] if self.wants_context else []), *args, **kwargs)

    def start(self, job: Job, ctx: object) -> Awaitable[object]:
        """Call the function with the job's arguments, and the context if it wants it. Raises BadArguments."""
        args, kwargs = self.bind(job)
        return self.function(ctx, *args, **kwargs) if self.wants_context else self.function(*args, **kwargs)

    def bind(self, job: Job) -> tuple[list[Any], dict[str, Any]]:
        """The job's arguments as the parameters want them, by position and by name.

        Raises BadArguments, which names the parameter, expected and got.
        """
        return bind(self._signature, job)
