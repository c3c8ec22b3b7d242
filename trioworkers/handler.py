"""A handler: the user's async function, and how a job's JSON arguments become its parameters."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable
from typing import Any, Generic, ParamSpec, get_type_hints

import attrs
import msgspec

from trioworkers.context import Context
from trioworkers.errors import BadArguments, ConfigurationError
from trioworkers.wire.job import Job

P = ParamSpec("P")
ANY_CLASS = "*"


@attrs.frozen
class Parameter:
    """One parameter that takes an argument of the job; `rest` takes all that follow."""

    name: str
    annotation: Any
    required: bool
    rest: bool = False


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
        retry: bool | int = True,
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
        self.wants_context, self._parameters = _signature(function, self.where)

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
        if self.job_class == ANY_CLASS:
            raise TypeError(f"{self.where} takes every class; build a Job that names one")
        names = [p.name for p in self._parameters if not p.rest]
        values = list(args)
        for name in names[len(args) :]:
            if name not in kwargs:
                break
            values.append(kwargs[name])
        signature = inspect.signature(self.function)
        signature.bind(*([None] if self.wants_context else []), *args, **kwargs)
        if len(values) != len(args) + len(kwargs):
            raise TypeError(f"{self.where}: arguments travel by position; give all that come before {set(kwargs)}")
        return Job(self.queue, self.job_class, values)

    def bind(self, job: Job) -> list[Any]:
        """The job's arguments as the parameters want them. Raises BadArguments, which names the parameter, expected and got."""
        args = job.args
        parameters = self._parameters
        bound = []
        for position, parameter in enumerate(parameters):
            if parameter.rest:
                bound += [_convert(a, parameter, job, n) for n, a in enumerate(args[position:], position + 1)]
                return bound
            if position < len(args):
                bound.append(_convert(args[position], parameter, job, position + 1))
            elif parameter.required:
                raise BadArguments(
                    f"{job.job_class}: argument {position + 1} ({parameter.name}) is missing: "
                    f"expected {_type_name(parameter.annotation)}, got {len(args)} arguments"
                )
        if len(args) > len(parameters):
            raise BadArguments(f"{job.job_class}: expected at most {len(parameters)} arguments, got {len(args)}")
        return bound


def _signature(function: Callable[..., object], where: str) -> tuple[bool, list[Parameter]]:
    if not inspect.iscoroutinefunction(function):
        raise ConfigurationError(f"{where}: a handler is an async function (async def)")
    hints = _hints(function, where)
    parameters: list[Parameter] = []
    wants_context = False
    for number, p in enumerate(inspect.signature(function).parameters.values()):
        annotation = hints.get(p.name, Any)
        if number == 0 and annotation is Context:
            wants_context = True
        elif p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD):
            parameters.append(_parameter(p, annotation, where))
        elif p.kind is p.VAR_POSITIONAL:
            parameters.append(attrs.evolve(_parameter(p, annotation, where), rest=True))
        elif p.default is p.empty and p.kind is p.KEYWORD_ONLY:
            raise ConfigurationError(f"{where}: {p.name!r} can't be keyword-only, a job's arguments go by position")
    return wants_context, parameters


def _hints(function: Callable[..., object], where: str) -> dict[str, Any]:
    # Context may be imported for type checkers only; other names have to be there, for they say how to convert.
    try:
        return get_type_hints(function, localns={"Context": Context, "Job": Job})
    except (NameError, TypeError) as error:
        raise ConfigurationError(f"{where}: its annotations can't be evaluated: {error}") from error


def _parameter(p: inspect.Parameter, annotation: Any, where: str) -> Parameter:
    if annotation is Context:
        raise ConfigurationError(f"{where}: the Context is the first parameter, not {p.name!r}")
    try:
        msgspec.convert(None, annotation, dec_hook=_convert_custom)
    except TypeError as error:
        raise ConfigurationError(f"{where}: {p.name!r}: {error}") from error
    except (ValueError, NotImplementedError):
        pass  # None doesn't fit: nothing wrong with the annotation
    return Parameter(p.name, annotation, required=p.default is p.empty)


def _convert(value: Any, parameter: Parameter, job: Job, position: int) -> Any:
    annotation = parameter.annotation
    if annotation is Any or type(value) is annotation:  # plain types only: containers have other annotations
        return value
    try:
        return msgspec.convert(value, annotation, dec_hook=_convert_custom)
    except (ValueError, RecursionError) as error:
        what = _readable(str(error))
        raise BadArguments(f"{job.job_class}: argument {position} ({parameter.name}): {what}") from None


def _convert_custom(kind: type, value: Any) -> Any:
    """Types that msgspec doesn't know: pydantic models read themselves."""
    validate = getattr(kind, "model_validate", None)
    if validate is not None:
        return validate(value)
    if isinstance(value, kind):
        return value
    raise ValueError(f"Expected `{_type_name(kind)}`, got `{type(value).__name__}`")


def _readable(message: str) -> str:
    """Turns msgspec's "Expected `int`, got `str` - at `$.id`" into our words."""
    message = re.sub(r" - at `\$\.?(.*)`$", r", in field \1", message).replace("`", "")
    return message[:1].lower() + message[1:]


def _type_name(annotation: Any) -> str:
    return getattr(annotation, "__name__", None) or str(annotation)
