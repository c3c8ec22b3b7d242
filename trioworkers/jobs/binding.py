"""How a job's arguments become a handler's parameters: by position and, in ActiveJob's jobs, by name; converted to the annotations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trioworkers.errors import BadArguments
from trioworkers.jobs.signature import Parameter, Signature
from trioworkers.wire.job import Job
from trioworkers.wording import counted

MAX_NAME = 80


def bind(taken: Signature, job: Job) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """`(args, kwargs)` to call the handler with. Raises BadArguments, which names the parameter, expected and got."""
    args, kwargs = _given(taken, job) if job.active_job else (job.args, job.kwargs)
    if taken.types and not kwargs and [*map(type, args)] == taken.types:
        return args, kwargs
    name = job.job_class
    check_taken(taken, name, args, kwargs)
    bound = [convert(taken.at(place), value, name, place + 1) for place, value in enumerate(args)]
    named = {key: convert(taken.called(key), value, name, key) for key, value in kwargs.items()}
    check_missing(taken, name, len(args), kwargs)
    return bound, named


def _given(taken: Signature, job: Job) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """The job's arguments; before Rails 6.0.3 keyword arguments came as a last hash, told only by what the method took."""
    args = job.args
    if taken.keyword_only and args and not job.kwargs:
        last, required = args[-1], sum(p.required for p in taken.positional)
        if isinstance(last, dict) and last and len(args) > required and last.keys() <= taken.keyword_only.keys():
            return args[:-1], last
    return args, job.kwargs


def convert(parameter: Parameter, value: Any, name: str, place: int | str) -> Any:
    """One argument, given by number or by name, as its parameter wants it. Raises BadArguments, which `name` begins."""
    if parameter.annotation is Any or type(value) is parameter.annotation:
        return value
    try:
        return parameter.conversion.read(value)
    except ValueError as error:
        raise BadArguments(f"{name}: {parameter.called(place)}: {error}") from None


def check_taken(taken: Signature, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """That all these are taken: no more than it has, and by names that it has. Raises BadArguments, which `name` begins."""
    positional, count = taken.positional, len(args)
    if count > len(positional) and taken.rest is None:
        raise BadArguments(f"{name}: expected at most {counted(len(positional), 'argument')}, got {count}")
    if kwargs:
        by_position = {p.name for p in positional[:count]}
        for key in kwargs:
            if not taken.takes(key):
                known = ", ".join(taken.named) or "none"
                raise BadArguments(f"{name}: unexpected keyword argument {key[:MAX_NAME]!r}; known: {known}")
            if key in by_position and key in taken.named:
                raise BadArguments(f"{name}: argument {key} is given by position and by name")


def check_missing(taken: Signature, name: str, count: int, kwargs: Mapping[str, Any]) -> None:
    """That none is missing from the first `count` and these. Raises BadArguments, which `name` begins."""
    for number, parameter in enumerate(taken.positional[count:], count + 1):
        if parameter.required and not (parameter.name in kwargs and parameter.name in taken.named):
            raise _missing(name, parameter, number, count)
    for parameter in taken.keyword_only.values():
        if parameter.required and parameter.name not in kwargs:
            raise _missing(name, parameter, parameter.name, count)


def _missing(name: str, parameter: Parameter, place: int | str, count: int) -> BadArguments:
    called = parameter.called(place)
    return BadArguments(f"{name}: {called} is missing: expected {parameter.kind}, got {counted(count, 'argument')}")
