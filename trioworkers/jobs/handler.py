"""A handler: the user's async function, its class and queue, and the jobs that it builds for itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Generic, ParamSpec

from trioworkers.errors import BadCall
from trioworkers.jobs.binding import bind
from trioworkers.jobs.building import build, build_named
from trioworkers.jobs.signature import signature
from trioworkers.wire.job import Job

P = ParamSpec("P")
ANY_CLASS = "*"


class Handler(Generic[P]):
    """What `@app.handler` makes of a function: it can still be called as the plain function that it is.

    `job(*args)` builds a job for it, typed by the function's own signature without the context. `where`: how errors name it.
    """

    def __init__(
        self,
        function: Callable[..., Awaitable[object]],
        queue: str,
        job_class: str,
        *,
        timeout: float | None = None,
        retry: bool | int | None = None,
        check: bool = True,
    ) -> None:
        self.function = function
        self.queue = queue
        self.job_class = job_class
        self.timeout_s = timeout
        self.retry = retry
        self._check = check
        self.__name__ = getattr(function, "__name__", job_class)
        self.__qualname__ = getattr(function, "__qualname__", job_class)
        self.__doc__ = function.__doc__
        self.__module__ = function.__module__
        self.__wrapped__ = function
        self.where = f"handler {self.__name__} (class {job_class!r} on queue {queue!r})"
        self._signature = signature(function, self.where)
        self.wants_context = self._signature.context is not None

    def __call__(self, *args: Any, **kwargs: Any) -> Awaitable[object]:
        """Call the plain function."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<{self.where}>"

    def job(self, *args: P.args, **kwargs: P.kwargs) -> Job:
        """A job for this handler, its arguments by position or name. Raises BadCall, a TypeError, for wrong ones."""
        self._check_class()
        return Job(self.queue, self.job_class, build(self._signature, self.where, args, kwargs, check=self._check))

    def active_job(self, *args: P.args, **kwargs: P.kwargs) -> Job:
        """Like `job`, but a job of Rails' ActiveJob, whose arguments travel by position or by name, as given."""
        self._check_class()
        values, named = build_named(self._signature, self.where, args, kwargs, check=self._check)
        return Job(self.queue, self.job_class, values, kwargs=named, active_job=True)

    def _check_class(self) -> None:
        if self.job_class == ANY_CLASS:
            raise BadCall(f"{self.where} takes every class; build a Job that names one")

    def start(self, job: Job, ctx: object) -> Awaitable[object]:
        """Call the function with the job's arguments, and the context if it wants it. Raises BadArguments."""
        args, kwargs = self.bind(job)
        return self.function(ctx, *args, **kwargs) if self.wants_context else self.function(*args, **kwargs)

    def bind(self, job: Job) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """The job's arguments as the parameters want them, by position and by name.

        Raises BadArguments, which names the parameter, expected and got.
        """
        return bind(self._signature, job)
