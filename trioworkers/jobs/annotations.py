"""What an annotation is made of, and whether a job's JSON can become it: asked once, where a handler is declared.

msgspec reads what it doesn't know as "an instance of that class", which no JSON is, and leaves out what it can't obey: others' constraints in
`Annotated`, converters, `__init__`s of one's own. Both would be found out by the first job. So the whole annotation is walked, through
containers and fields, and what nobody would obey is refused.
"""

from __future__ import annotations

import enum
import sys
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import attrs
import msgspec

from trioworkers.jobs.context import Context
from trioworkers.jobs.unobeyed import is_typed_dict, says_to_pydantic, unobeyed, unobeyed_default
from trioworkers.wire.ruby_values import Symbol

_CONSTRAINTS = ("pydantic", "pydantic_core", "annotated_types")
"""Packages whose words in `Annotated` pydantic obeys."""


class Unbindable(ValueError):
    """No job's argument could become this, or not without leaving out what it says. The message tells what to write instead."""


@attrs.define
class Makeup:
    """What was found in an annotation. The first part of each kind, in words, or None.

    `native`: what only msgspec reads; `foreign`: what only pydantic reads; `model`: a pydantic model, which either can. `fields`: whether there
    are classes with fields; `keys`: whether there are dicts whose keys aren't texts; `names`: of the fields of pydantic's classes;
    `enums`: those that are no numbers or texts themselves; `unobeyed`: what msgspec would leave out.
    """

    native: str | None = None
    foreign: str | None = None
    model: str | None = None
    fields: bool = False
    keys: bool = False
    names: set[str] = attrs.field(factory=set)
    enums: set[type] = attrs.field(factory=set)
    unobeyed: str | None = None
    _seen: set[Any] = attrs.field(factory=set)

    @property
    def by_pydantic(self) -> bool:
        """Whether pydantic reads the whole, instead of msgspec."""
        return bool(self.foreign or (self.model and not self.native))

    def walk(self, annotation: Any) -> None:
        """Add what `annotation` is made of. Raises Unbindable."""
        if get_origin(annotation) is typing.Annotated:
            self._annotated(*get_args(annotation))
        elif isinstance(annotation, typing.NewType):
            self.walk(annotation.__supertype__)
        elif _is_alias(annotation):
            self.unobeyed = self.unobeyed or unobeyed_default(annotation.__name__, _variables(annotation))
            self._alias(annotation)
        elif get_origin(annotation) is typing.Literal:
            pass
        elif (origin := get_origin(annotation)) is not None:
            self._generic(origin, get_args(annotation))
        elif isinstance(annotation, type) and annotation not in self._seen:
            self._seen.add(annotation)
            self.unobeyed = self.unobeyed or unobeyed_default(annotation.__name__, _variables(annotation))
            self._class(annotation)

    def _annotated(self, base: Any, *words: Any) -> None:
        self.walk(base)
        for word in words:
            package = type(word).__module__.partition(".")[0]
            if isinstance(word, msgspec.Meta):
                self.native = self.native or "msgspec.Meta"
            elif package in _CONSTRAINTS or hasattr(word, "__get_pydantic_core_schema__"):
                self.foreign = self.foreign or f"{type(word).__name__} in Annotated"
            elif not isinstance(word, str | None) and type(word).__name__ != "Doc":  # what is only told to readers
                raise Unbindable(f"nothing here uses {type(word).__name__} in Annotated")

    def _generic(self, origin: Any, args: Iterable[Any]) -> None:
        for arg in args:
            if arg is not Ellipsis:
                self.walk(arg)
        if _is_alias(origin):
            self._alias(origin)
        elif isinstance(origin, type) and origin is not types.UnionType:
            self._class(origin)

    def _alias(self, alias: Any) -> None:
        if alias not in self._seen:  # one may hold itself
            self._seen.add(alias)
            self.walk(alias.__value__)

    def _class(self, kind: type) -> None:
        if issubclass(kind, Context):
            raise Unbindable("the Context is the first parameter, annotated as Context itself")
        if _is_model(kind):
            self.model = self.model or f"the pydantic model {kind.__name__}"
            self._pydantic_fields(kind)
        elif hasattr(kind, "__get_pydantic_core_schema__") or hasattr(kind, "__pydantic_validator__"):
            self.foreign = self.foreign or f"pydantic's {kind.__name__}"
            self._pydantic_fields(kind)
        elif issubclass(kind, enum.Enum) and not issubclass(kind, int | str):
            self.enums.add(kind)
        elif any(hasattr(kind, mark) for mark in _FIELD_MARKS) or is_typed_dict(kind):
            self.fields = True
            self._own_fields(kind)

    def _own_fields(self, kind: Any) -> None:
        if issubclass(kind, msgspec.Struct):
            self.native = self.native or f"the Struct {kind.__name__}"
        elif attrs.has(kind):
            self.native = self.native or f"the attrs class {kind.__name__}"
        if says_to_pydantic(kind):
            self.foreign = self.foreign or f"what {kind.__name__} says to pydantic"
        of = hints(kind)
        self.unobeyed = self.unobeyed or unobeyed(kind, of)
        for annotation in of.values():
            self.walk(_unqualified(annotation))

    def _pydantic_fields(self, kind: Any) -> None:
        """Only for the names, which errors may tell; what such a class can't read it says itself."""
        declared: Mapping[str, Any] = getattr(kind, "__pydantic_fields__", None) or {}
        for name, field in declared.items():
            self.names.update(text for text in (name, field.alias, field.validation_alias) if isinstance(text, str))
            for part in _parts(field.annotation):
                if isinstance(part, type) and part not in self._seen and hasattr(part, "__pydantic_fields__"):
                    self._seen.add(part)
                    self._pydantic_fields(part)


_FIELD_MARKS = ("__struct_fields__", "__attrs_attrs__", "__dataclass_fields__", "_fields")
"""What tells a class with fields: msgspec's, attrs', a dataclass, a NamedTuple. (Enums have no `_fields`.)"""


def makeup(annotation: Any) -> Makeup:
    """What `annotation` is made of. Raises Unbindable for what no job's argument can become."""
    found = Makeup()
    if not isinstance(annotation, type):
        open_ones = (annotation,) if isinstance(annotation, TypeVar) else getattr(annotation, "__parameters__", ())
        found.unobeyed = unobeyed_default("the annotation", open_ones)
    found.walk(annotation)
    if found.foreign and found.native:
        raise Unbindable(f"{found.native} is read by msgspec, {found.foreign} by pydantic: they can't be combined")
    if not found.by_pydantic:
        if found.unobeyed:
            raise Unbindable(found.unobeyed)
        found.keys = _check_readable(annotation)
    return found


def hints(function_or_class: Any, local_names: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Its annotations, with what they say in `Annotated`. Raises Unbindable if they can't be evaluated."""
    try:
        return get_type_hints(function_or_class, localns=dict(local_names or {}), include_extras=True)
    except NameError as error:
        raise Unbindable(
            f"its annotations name {error.name}, which isn't known here: define or import it above, at the module's top level, "
            "not in a function nor under TYPE_CHECKING"
        ) from error
    except Exception as error:
        raise Unbindable(f"its annotations can't be evaluated: {error}") from error


def is_context(annotation: Any) -> bool:
    """Whether that is a Context, or one that may be absent, for those who call the function themselves."""
    if get_origin(annotation) is typing.Annotated:
        return is_context(get_args(annotation)[0])
    if get_origin(annotation) in (typing.Union, types.UnionType):
        kinds = [kind for kind in get_args(annotation) if kind is not types.NoneType]
        return bool(kinds) and all(map(is_context, kinds))
    return annotation is Context


def _is_alias(annotation: Any) -> bool:
    """`type X = …`, from Python 3.12 on, or its like in typing_extensions."""
    return type(annotation).__name__ == "TypeAliasType"


def _is_model(kind: type) -> bool:
    pydantic = sys.modules.get("pydantic")  # who has a model has imported it
    return pydantic is not None and issubclass(kind, pydantic.BaseModel)


def _unqualified(annotation: Any) -> Any:
    """Without what only says of a field how it is set: Required, NotRequired, ReadOnly, Final; a ClassVar is no field."""
    while get_origin(annotation) is not None and getattr(get_origin(annotation), "_name", "") in _QUALIFIERS:
        annotation = get_args(annotation)[0]
    return Any if get_origin(annotation) is typing.ClassVar or annotation is typing.ClassVar else annotation


_QUALIFIERS = ("Required", "NotRequired", "ReadOnly", "Final")


def _parts(annotation: Any) -> Iterator[Any]:
    yield annotation
    for arg in get_args(annotation):
        yield from _parts(arg)


def _variables(named: Any) -> Iterator[Any]:
    """The type variables that stay open where a class or an alias is named without `[…]`, those of its bases with them."""
    yield from getattr(named, "__parameters__", ())
    for kind in getattr(named, "__mro__", ()):
        for base in vars(kind).get("__orig_bases__", kind.__bases__):
            if isinstance(base, type):
                yield from getattr(base, "__parameters__", ())


# ── what JSON can't become ─────────────────────────────────────────────────────────────────────────────────────────────

_KEYS = ("Any", "Str", "Int", "Float", "Date", "DateTime", "Time", "TimeDelta", "UUID", "Decimal", "Bytes", "Enum")


def _check_readable(annotation: Any) -> bool:
    """Raise Unbindable for what msgspec can't read. Returns whether there are dicts whose keys aren't texts."""
    try:
        waiting = [msgspec.inspect.type_info(annotation)]
    except Exception as error:  # a TypeError, a NotImplementedError, or what an annotation's own code raises
        raise Unbindable(str(error).partition("File a GitHub")[0].strip()) from error
    keys, seen = False, set()
    while waiting:  # not by recursion: types may hold themselves
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, msgspec.inspect.CustomType):
            _check_custom(one.cls)
        elif isinstance(one, msgspec.inspect.RawType | msgspec.inspect.ExtType):
            raise Unbindable("arguments come decoded: take Any")
        elif isinstance(one, msgspec.inspect.DictType):
            keys = _check_key(one.key_type) or keys
        waiting.extend(_inner(one))
    return keys


def _inner(one: Any) -> Iterator[Any]:
    """The types that a type holds, whatever msgspec calls the attribute."""
    for name in getattr(one, "__struct_fields__", ()):
        value = getattr(one, name)
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, msgspec.inspect.Field):
                yield item.type
            elif isinstance(item, msgspec.inspect.Type):
                yield item


def _check_key(key: Any) -> bool:
    while isinstance(key, msgspec.inspect.Metadata):
        key = key.type
    kind = type(key).__name__.removesuffix("Type")
    literal = isinstance(key, msgspec.inspect.LiteralType) and len({type(value) for value in key.values}) == 1
    if kind not in _KEYS and not (literal and not isinstance(key.values[0], bool | None)):
        raise Unbindable("keys of a JSON object are texts, which can't become this dict's: give them one plain type")
    return kind not in ("Any", "Str")


def _check_custom(kind: type) -> None:
    if kind is object or issubclass(kind, Symbol) or _is_model(kind):
        return
    name = kind.__name__
    if kind.__module__ in ("collections.abc", "typing") and hasattr(kind, "__iter__"):
        raise Unbindable(f"{name} can't be read from JSON: write list[…] or Sequence[…]")
    for plain in (int, str, float, bytes, dict, list, tuple, set):
        if issubclass(kind, plain) and not issubclass(kind, enum.Enum):
            raise Unbindable(
                f"{name} can't be read from JSON: take {plain.__name__}, or NewType({name!r}, {plain.__name__})"
            )
    raise Unbindable(
        f"{name} can't be read from JSON: take a type that JSON has, a dataclass, an attrs class or a pydantic model"
    )
