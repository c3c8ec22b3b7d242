"""The way back: from a call with a handler's own types to the arguments that its job carries, checked by what the handler will read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import contains
from typing import Any

from trioworkers.errors import BadArguments, BadCall, BadJob
from trioworkers.jobs.binding import check_missing, check_taken, convert
from trioworkers.jobs.signature import Parameter, Signature
from trioworkers.wire.ruby_values import from_ruby, to_ruby

_AS_THEY_ARE = frozenset({int, str, bool, type(None)})


def build(
    taken: Signature, where: str, args: Sequence[Any], kwargs: Mapping[str, Any], *, check: bool
) -> Sequence[Any]:
    """The arguments of a Sidekiq job, by position. Raises BadCall, which `where` begins; without `check` only of names and number."""
    values = _by_position(taken, where, args, kwargs) if kwargs else args
    if taken.least <= len(values) <= len(taken.scalars) and all(map(contains, taken.scalars, map(type, values))):
        return values
    _check_given(taken, where, values, {})
    return [_written(taken.at(place), value, where, place + 1, check=check) for place, value in enumerate(values)]


def build_named(
    taken: Signature, where: str, args: Sequence[Any], kwargs: Mapping[str, Any], *, check: bool
) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """The arguments of an ActiveJob, by position and by name as given. Raises BadCall.

    Ruby has more types than JSON, so what `wire/ruby_values.py` knows how to write stays what it is.
    """
    _check_given(taken, where, args, kwargs)
    sent = [_kept(taken.at(place), value, where, place + 1, check=check) for place, value in enumerate(args)]
    named = {name: _kept(taken.called(name), value, where, name, check=check) for name, value in kwargs.items()}
    return sent, named


def _by_position(taken: Signature, where: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Sequence[Any]:
    values = list(args)
    for parameter in taken.positional[len(args) :]:
        if parameter.name not in kwargs or parameter.name not in taken.named:
            break
        values.append(kwargs[parameter.name])
    if len(values) == len(args) + len(kwargs):
        return values
    _check_given(taken, where, args, kwargs)
    raise BadCall(
        f"{where}: arguments of a Sidekiq job travel by position; give all that come before {', '.join(kwargs)}, "
        "or build an ActiveJob job with .active_job(…)"
    )


def _check_given(taken: Signature, where: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    try:
        check_taken(taken, where, args, kwargs)
        check_missing(taken, where, len(args), kwargs)
    except BadArguments as error:
        raise BadCall(str(error)) from None


def _kept(parameter: Parameter, value: Any, where: str, place: int | str, *, check: bool) -> Any:
    by_pydantic = parameter.conversion.by_pydantic
    if not check and not by_pydantic:
        return value
    written = _written(parameter, value, where, place, check=check)
    if by_pydantic:
        return written
    try:
        convert(parameter, from_ruby(to_ruby(value)), where, place)
    except (BadArguments, BadJob, RecursionError) as error:
        raise BadCall(_said(error, parameter, where, place)) from None
    return value


def _written(parameter: Parameter, value: Any, where: str, place: int | str, *, check: bool) -> Any:
    """`value` as the job carries it: what the handler would read as something else isn't sent."""
    conversion = parameter.conversion
    try:
        if check:
            conversion.check(value)
        written = value if type(value) in _AS_THEY_ARE else conversion.write(value)
        again = convert(parameter, written, where, place) if check and parameter.annotation is not Any else value
        same = again is value or conversion.is_same(value, again)
    except (BadArguments, BadJob, ValueError) as error:
        raise BadCall(_said(error, parameter, where, place)) from None
    if not same:
        kind = type(value).__name__
        raise BadCall(f"{where}: {parameter.called(place)}: this {kind} would be read as something else")
    return written


def _said(error: Exception, parameter: Parameter, where: str, place: int | str) -> str:
    return str(error) if isinstance(error, BadArguments) else f"{where}: {parameter.called(place)}: {error}"
