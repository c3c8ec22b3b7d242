"""How a job's arguments become a handler's parameters: by position and, in ActiveJob's jobs, by name; converted to the annotations."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_type_hints

import attrs
import msgspec

from trioworkers.errors import BadArguments, ConfigurationError
from trioworkers.jobs.context import Context
from trioworkers.wire.job import Job


@attrs.frozen
class Parameter:
    """One parameter that takes an argument of the job, or for `*` and `**` any number of them."""

    name: str
    annotation: Any
    required: bool


@attrs.frozen
class Signature:
    """What a handler takes after its context. `named`: by name, which those of `keyword_only` must be; `rest`, `others`: `*` and `**`.

    `types`: of arguments that can be passed on as they are; empty if it takes others than those of `positional`.
    """

    context: str | None
    positional: tuple[Parameter, ...]
    rest: Parameter | None
    named: Mapping[str, Parameter]
    keyword_only: Mapping[str, Parameter]
    others: Parameter | None
    types: Sequence[Any] = attrs.field(init=False)

    @types.default
    def _types(self) -> Sequence[Any]:
        return [] if self.rest or self.keyword_only else [p.annotation for p in self.positional]


# ── the handler's side ─────────────────────────────────────────────────────────────────────────────────────────────────


def signature(function: Callable[..., object], where: str) -> Signature:
    """What `function` takes. Raises ConfigurationError for what can't be a handler; `where` names it."""
    if not inspect.iscoroutinefunction(function):
        raise ConfigurationError(f"{where}: a handler is an async function (async def)")
    hints = _hints(function, where)
    parameters = list(inspect.signature(function).parameters.values())
    context = None
    if parameters and hints.get(parameters[0].name) is Context:
        context = parameters.pop(0).name
    read = {p.name: _parameter(p, hints.get(p.name, Any), where) for p in parameters}

    def of(*kinds: object) -> list[Parameter]:
        return [read[p.name] for p in parameters if p.kind in kinds]

    p = inspect.Parameter
    return Signature(
        context,
        tuple(of(p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)),
        next(iter(of(p.VAR_POSITIONAL)), None),
        {one.name: one for one in of(p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)},
        {one.name: one for one in of(p.KEYWORD_ONLY)},
        next(iter(of(p.VAR_KEYWORD)), None),
    )


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
    required = p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    return Parameter(p.name, annotation, required)


# ── the job's side ─────────────────────────────────────────────────────────────────────────────────────────────────────


def bind(taken: Signature, job: Job) -> tuple[list[Any], dict[str, Any]]:
    """`(args, kwargs)` to call the handler with. Raises BadArguments, which names the parameter, expected and got."""
    args, kwargs = _given(taken, job)
    if taken.types and not kwargs and [*map(type, args)] == taken.types:
        return list(args), {}
    positional = taken.positional
    bound = [
        value if type(value) is p.annotation else _convert(value, p, job, number)
        for number, (value, p) in enumerate(zip(args, positional, strict=False), 1)
    ]
    if len(args) > len(positional):
        rest = taken.rest
        if rest is None:
            raise BadArguments(f"{job.job_class}: expected at most {len(positional)} arguments, got {len(args)}")
        first = len(positional)
        bound += [_convert(value, rest, job, number) for number, value in enumerate(args[first:], first + 1)]
    named: dict[str, Any] = {}
    if kwargs:
        by_position = {p.name for p in positional[: len(args)]}
        named = {name: _bind_name(taken, job, name, value, by_position) for name, value in kwargs.items()}
    if len(args) < len(positional) or taken.keyword_only:
        _check_missing(taken, job, len(args), named)
    return bound, named


def _given(taken: Signature, job: Job) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """The job's arguments; before Rails 6.0.3 keyword arguments came as a last hash, told only by what the method took."""
    args = job.args
    if job.active_job and taken.keyword_only and args and not job.kwargs:
        last, required = args[-1], sum(p.required for p in taken.positional)
        if isinstance(last, dict) and last and len(args) > required and last.keys() <= taken.keyword_only.keys():
            return args[:-1], last
    return args, job.kwargs


def _bind_name(taken: Signature, job: Job, name: str, value: Any, by_position: set[str]) -> Any:
    parameter = taken.named.get(name, taken.others)
    if parameter is None or name == taken.context:
        known = ", ".join(taken.named) or "none"
        raise BadArguments(f"{job.job_class}: unexpected keyword argument {name!r}; known: {known}")
    if parameter is not taken.others and name in by_position:
        raise BadArguments(f"{job.job_class}: argument {name} is given by position and by name")
    return _convert(value, parameter, job, name)


def _check_missing(taken: Signature, job: Job, count: int, named: Mapping[str, Any]) -> None:
    for number, parameter in enumerate(taken.positional[count:], count + 1):
        if parameter.required and not (parameter.name in named and parameter.name in taken.named):
            raise _missing(job, parameter, number, count)
    for parameter in taken.keyword_only.values():
        if parameter.required and parameter.name not in named:
            raise _missing(job, parameter, parameter.name, count)


def _missing(job: Job, parameter: Parameter, place: int | str, count: int) -> BadArguments:
    expected = _type_name(parameter.annotation)
    return BadArguments(
        f"{job.job_class}: {_called(parameter, place)} is missing: expected {expected}, got {count} arguments"
    )


def _called(parameter: Parameter, place: int | str) -> str:
    """How errors name an argument that is given by number or by name."""
    return f"argument {place} ({parameter.name})" if isinstance(place, int) else f"keyword argument {place}"


def _convert(value: Any, parameter: Parameter, job: Job, place: int | str) -> Any:
    annotation = parameter.annotation
    if annotation is Any or type(value) is annotation:  # plain types only: containers have other annotations
        return value
    try:
        return msgspec.convert(value, annotation, dec_hook=_convert_custom)
    except (ValueError, RecursionError) as error:
        raise BadArguments(f"{job.job_class}: {_called(parameter, place)}: {_readable(str(error))}") from None


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
