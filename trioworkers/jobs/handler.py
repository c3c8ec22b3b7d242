"""A handler: the user's async function, its class and queue, and the jobs that it builds for itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Generic, ParamSpec, TypeVar

from trioworkers.errors import BadArguments, BadCall
from trioworkers.jobs.binding import bind
from trioworkers.jobs.building import build, build_named
from trioworkers.jobs.limits import bound_limits
from trioworkers.jobs.options import HandlerOptions
from trioworkers.jobs.signature import signature
from trioworkers.jobs.unique import bound_unique
from trioworkers.wire.job import Job, job_that_says, new_jid

P = ParamSpec("P")
C = ParamSpec("C")
R_co = TypeVar("R_co", covariant=True)
ANY_CLASS = "*"
_USUAL = HandlerOptions()


class Handler(Generic[P, C, R_co]):
    """A function with `@app.handler` above it. You can still call it as a plain function.

    `job(*args)` builds a job for it, with the handler's options. It has the parameters of the function, without the context.
    `where`: how errors name it. `says_retry`: what its jobs say of retries if the handler says nothing: True, or nothing.
    """

    def __init__(
        self,
        function: Callable[C, Awaitable[R_co]],
        queue: str,
        job_class: str,
        options: HandlerOptions = _USUAL,
        says_retry: Callable[[], bool | None] = lambda: True,
    ) -> None:
        self.function = function
        self.queue = queue
        self.job_class = job_class
        self.timeout_s = options.timeout_s
        self.retry = options.retry
        self._check = options.check
        self._carried = options.carried
        self.keep_result_s: float | None = options.carried.get("keep_result")
        self.expires_in_s: float | None = options.carried.get("expires_in")
        self.keep_finished = options.keep_finished
        self.keep_log = options.keep_log
        self.says_more = bool(self.keep_result_s or self.expires_in_s or self.keep_finished)
        """Whether it matters for its jobs how long they are wanted, or how they ended."""
        self._says_retry = says_retry
        self.__name__ = getattr(function, "__name__", job_class)
        self.__qualname__ = getattr(function, "__qualname__", job_class)
        self.__doc__ = function.__doc__
        self.__module__ = function.__module__
        self.__wrapped__ = function
        self.where = f"handler {self.__name__} (class {job_class!r} on queue {queue!r})"
        self._signature = signature(function, self.where)
        self.wants_context = self._signature.context is not None
        self.limits = bound_limits(self.where, options.limits, function, self._signature.context)
        self.unique = bound_unique(self.where, options.unique, function, self._signature)

    def __call__(self, /, *args: C.args, **kwargs: C.kwargs) -> Awaitable[R_co]:
        """Call the plain function."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<{self.where}>"

    def job(self, /, *args: P.args, **kwargs: P.kwargs) -> Job:
        """A job for this handler, with arguments by position or name. Raises BadCall (a TypeError) for wrong arguments."""
        return self._job(build(self._signature, self.where, args, kwargs, check=self._check))

    def active_job(self, /, *args: P.args, **kwargs: P.kwargs) -> Job:
        """Like `job`, but a job of Rails' ActiveJob. Its arguments are sent by position or by name, as you give them."""
        values, named = build_named(self._signature, self.where, args, kwargs, check=self._check)
        return self._job(values, kwargs=named, active_job=True)

    def _job(self, args: Sequence[Any], **fields: Any) -> Job:
        if self.job_class == ANY_CLASS:
            raise BadCall(f"{self.where} takes every class; build a Job that names one")
        if self.retry is None:
            fields["retry"] = self._says_retry()
        if self.unique is not None:
            try:
                fields["lock"] = self.unique.lock(self.job_class, args, fields.get("kwargs", {}))
            except BadArguments as error:
                raise BadCall(str(error)) from None
        named = {"queue": self.queue, "job_class": self.job_class, "args": tuple(args), "jid": new_jid()}
        return job_that_says(**named, **self._carried, **fields)

    def start(self, job: Job, ctx: object) -> Awaitable[R_co]:
        """Call the function with the job's arguments, and the context if it wants it. Raises BadArguments."""
        args, kwargs = bind(self._signature, job)
        function: Callable[..., Awaitable[R_co]] = self.function
        return function(ctx, *args, **kwargs) if self.wants_context else function(*args, **kwargs)

    def bind(self, job: Job) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """The job's arguments as the parameters want them, by position and by name.

        Raises BadArguments, which names the parameter, expected and got.
        """
        return bind(self._signature, job)


AnyHandler = Handler[..., ..., Any]
"""One whose types don't matter."""
