"""What a handler takes: its signature, inspected once, where it is declared; what no job could bind is refused there, with the line."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast, get_args

import attrs

from trioworkers.errors import ConfigurationError
from trioworkers.jobs.annotations import Unbindable, hints, is_context
from trioworkers.jobs.context import Context
from trioworkers.jobs.conversion import Conversion, scalars
from trioworkers.jobs.unobeyed import is_word_of_a_field
from trioworkers.wire.job import Job

_OF_THE_CONTEXT = ("ctx", "context")
MAX_KIND = 200
_OF_METHODS = ("self", "cls")


@attrs.frozen
class Parameter:
    """One parameter that takes an argument of the job, or for `*` and `**` any number of them. `annotation`: a plain type, or its like."""

    name: str
    annotation: Any
    required: bool
    conversion: Conversion = attrs.field(eq=False, repr=False)

    @property
    def kind(self) -> str:
        """How errors name its type."""
        if isinstance(self.annotation, type) and not get_args(self.annotation):
            return self.annotation.__name__
        return str(self.annotation).replace("typing.", "")[:MAX_KIND]

    def called(self, place: int | str) -> str:
        """How errors name the argument that is given to it by number or by name."""
        return f"argument {place} ({self.name})" if isinstance(place, int) else f"keyword argument {place}"


@attrs.frozen
class Signature:
    """What a handler takes after its context. `named`: by name, which those of `keyword_only` must be; `rest`, `others`: `*` and `**`.

    `types`: of arguments that can be passed on as they are; empty if it takes others than those of `positional`. `scalars`: of each of
    those the types that travel and arrive as they are; `least`: how many it takes at the least, if all are given by position.
    """

    context: str | None
    positional: tuple[Parameter, ...]
    rest: Parameter | None
    named: Mapping[str, Parameter]
    keyword_only: Mapping[str, Parameter]
    others: Parameter | None
    types: Sequence[Any] = attrs.field(init=False)
    scalars: Sequence[frozenset[Any]] = attrs.field(init=False)
    least: float = attrs.field(init=False)

    @types.default
    def _types(self) -> Sequence[Any]:
        return [] if self.rest or self.keyword_only else [p.annotation for p in self.positional]

    @scalars.default
    def _scalars(self) -> Sequence[frozenset[Any]]:
        return [scalars(p.annotation) for p in self.positional]

    @least.default
    def _least(self) -> float:
        if any(p.required for p in self.keyword_only.values()):
            return math.inf
        return sum(p.required for p in self.positional)

    def at(self, place: int) -> Parameter:
        """The parameter of the argument at `place`, from 0 on, which is one that it takes."""
        return self.positional[place] if place < len(self.positional) else cast("Parameter", self.rest)

    def called(self, name: str) -> Parameter:
        """The parameter of the argument that is given by a name that it takes."""
        return cast("Parameter", self.named.get(name, self.others))

    def takes(self, name: str) -> bool:
        """Whether an argument may be given by that name."""
        return name != self.context and (name in self.named or self.others is not None)


def signature(function: Callable[..., object], where: str) -> Signature:
    """What `function` takes. Raises ConfigurationError for what can't be a handler; `where` names it."""
    try:
        return _signature(function)
    except Unbindable as error:
        raise ConfigurationError(f"{_line(function)}{where}: {error}") from error


def _line(function: Callable[..., object]) -> str:
    """`app.py:31: `, where the function is written, as editors read it; "" for what has no line."""
    while isinstance(function, partial):
        function = function.func
    code = getattr(inspect.unwrap(function), "__code__", None)
    return "" if code is None else f"{code.co_filename}:{code.co_firstlineno}: "


def _signature(function: Callable[..., object]) -> Signature:
    if not inspect.iscoroutinefunction(function):
        raise Unbindable("a handler is an async function (async def)")
    # Context may be imported for type checkers only; other names have to be there, for they say how to convert.
    known = getattr(inspect.unwrap(function), "__globals__", {})
    annotations = hints(function, {kind.__name__: kind for kind in (Context, Job) if kind.__name__ not in known})
    parameters = list(inspect.signature(function).parameters.values())
    context = None
    if parameters and is_context(annotations.get(parameters[0].name)):
        context = parameters.pop(0)
        if context.kind not in (context.POSITIONAL_ONLY, context.POSITIONAL_OR_KEYWORD):
            raise Unbindable(f"the Context is given by position, which {context.name!r} doesn't take")
    read = {p.name: _parameter(p, annotations, first=context is None and p is parameters[0]) for p in parameters}

    def of(*kinds: object) -> list[Parameter]:
        return [read[p.name] for p in parameters if p.kind in kinds]

    p = inspect.Parameter
    return Signature(
        None if context is None else context.name,
        tuple(of(p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)),
        next(iter(of(p.VAR_POSITIONAL)), None),
        {one.name: one for one in of(p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)},
        {one.name: one for one in of(p.KEYWORD_ONLY)},
        next(iter(of(p.VAR_KEYWORD)), None),
    )


def _parameter(p: inspect.Parameter, annotations: Mapping[str, Any], *, first: bool) -> Parameter:
    _check_name(p, annotations, first=first)
    annotation = annotations.get(p.name, Any)
    try:
        conversion = Conversion(annotation)
    except Unbindable as error:
        raise Unbindable(f"{p.name!r}: {error}") from error
    if is_word_of_a_field(p.default):
        raise Unbindable(f"{p.name!r}: its default is a {type(p.default).__name__}, which nobody would read")
    required = p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    return Parameter(p.name, annotation, required, conversion)


def _check_name(p: inspect.Parameter, annotations: Mapping[str, Any], *, first: bool) -> None:
    """Refuse what is meant for something else than an argument, and would take the job's first."""
    said = annotations.get(p.name)
    if said not in (None, Any, object) or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
        return
    if p.name in _OF_THE_CONTEXT:
        raise Unbindable(
            f"{p.name!r} would get an argument of the job: annotate it, {p.name}: Context, or give it another name"
            if first
            else f"the Context is the first parameter, not {p.name!r}"
        )
    if first and p.name in _OF_METHODS:
        raise Unbindable(f"{p.name!r} would get an argument of the job: a handler is a function, or a bound method")
