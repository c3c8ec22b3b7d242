"""What a class says of how its values are made that a job's would be made without: msgspec sets the fields, and calls little else.

Asked by the walk through an annotation (`annotations.py`), which refuses what it finds here, unless pydantic reads the whole.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterable, Mapping
from typing import Any, get_origin

import attrs
import msgspec

_GENERATED = ("<attrs generated", "<string>")
"""How the files of methods begin that attrs, dataclasses and named tuples write."""
_WORDS_OF_FIELDS = frozenset(
    (
        ("attr", "_CountingAttr"),
        ("attr", "Factory"),
        ("dataclasses", "Field"),
        ("msgspec", "Field"),
        ("pydantic", "FieldInfo"),
    )
)
"""What stands for a default where the right decorator reads it. Where none does, it becomes the value itself."""


def unobeyed(kind: Any, annotations: Mapping[str, Any]) -> str | None:
    """What a class with fields says that nobody would obey, in words, or None. `annotations`: its fields'."""
    if attrs.has(kind):
        return _of_making(kind) or _of_attrs(kind, annotations)
    if dataclasses.is_dataclass(kind):
        return _of_making(kind) or _of_dataclass(kind)
    if issubclass(kind, msgspec.Struct):
        return _of_defaults(kind, zip(kind.__struct_fields__[::-1], kind.__struct_defaults__[::-1], strict=False))
    if is_typed_dict(kind):
        return _of_typed_dict(kind)
    if not issubclass(kind, tuple):
        return None
    return _of_defaults(kind, kind._field_defaults.items()) or _of_method(kind, "__new__")


def unobeyed_default(name: str, variables: Iterable[Any]) -> str | None:
    """Msgspec takes a type variable to which nothing is given for its bound or Any, whatever its default (PEP 696) is."""
    for variable in variables:
        if getattr(variable, "has_default", bool)():
            return f"the default of type variable {variable.__name__} of {name} wouldn't be obeyed: write a type for it"
    return None


def says_to_pydantic(kind: Any) -> bool:
    """Whether a class that isn't pydantic's has something that only pydantic reads: a config, validators, `Field(…)` for a default."""
    defaults = [field.default for field in getattr(kind, "__dataclass_fields__", {}).values()]
    said = [value for each in kind.__mro__ for value in vars(each).values()]
    return hasattr(kind, "__pydantic_config__") or any(map(_is_pydantics_word, said + defaults))


def is_typed_dict(kind: type) -> bool:
    """Whether it is a TypedDict, be it typing's or that of typing_extensions, which has a class of its own for them."""
    return issubclass(kind, dict) and hasattr(kind, "__required_keys__")


def is_word_of_a_field(default: object) -> bool:
    """Whether a default is `Field(…)`, `field(…)` or the like, which nobody has read."""
    return (_package(default), type(default).__name__) in _WORDS_OF_FIELDS


def _is_pydantics_word(value: object) -> bool:
    return _package(value) == "pydantic" and type(value).__name__ in ("FieldInfo", "PydanticDescriptorProxy")


def _package(value: object) -> str:
    return type(value).__module__.partition(".")[0]


def _of_attrs(kind: Any, annotations: Mapping[str, Any]) -> str | None:
    before = getattr(kind, "__attrs_pre_init__", None)
    if before is not None and len(inspect.signature(before).parameters) > 1:
        return f"the __attrs_pre_init__ of {kind.__name__} wouldn't get its arguments"
    for field in attrs.fields(kind):
        if field.name not in annotations:
            return f"{kind.__name__}.{field.name} has no annotation"
        own = get_origin(annotations[field.name]) or annotations[field.name]
        if field.converter is not None and field.converter is not own:
            return f"the converter of {kind.__name__}.{field.name} wouldn't be called"
        if not field.init:
            return f"{kind.__name__}.{field.name} is declared with init=False, but a job would set it"
    # attrs' own Factory it has read itself.
    return _of_defaults(
        kind,
        ((f.name, f.default) for f in attrs.fields(kind) if not isinstance(f.default, attrs.Factory)),  # type: ignore[arg-type]
    )


def _of_dataclass(kind: Any) -> str | None:
    for field in dataclasses.fields(kind):
        if not field.init:
            return f"{kind.__name__}.{field.name} is declared with init=False, but a job would set it"
    return _of_defaults(kind, ((field.name, field.default) for field in dataclasses.fields(kind)))


def _of_typed_dict(kind: Any) -> str | None:
    if getattr(kind, "__closed__", None):
        return f"closed=True of {kind.__name__} wouldn't be obeyed"
    extra = getattr(kind, "__extra_items__", None)  # of typing_extensions, or from Python 3.15 on
    if extra is not None and not repr(extra).endswith("NoExtraItems"):
        return f"extra_items of {kind.__name__} wouldn't be obeyed"
    return None


def _of_making(kind: Any) -> str | None:
    """Msgspec makes an instance without calling anything but `__post_init__` and its like."""
    if kind.__new__ is not object.__new__:
        return f"{kind.__name__} has a __new__ of its own, which wouldn't be called"
    if inspect.isabstract(kind):
        return f"{kind.__name__} is abstract, so no value of it can be made"
    if not hasattr(kind.__init__, "__code__"):
        return f"{kind.__name__} has an __init__ of its own, which wouldn't be called"
    return _of_method(kind, "__init__") or _of_method(kind, "__setattr__")


def _of_method(kind: Any, name: str) -> str | None:
    method = getattr(kind, name)
    code = getattr(method, "__code__", None)
    if code is None or code.co_filename.startswith(_GENERATED):
        return None
    if method.__globals__.get("__name__") == "attr._make":  # attrs' own for frozen classes, and for those that validate
        return None
    return f"{kind.__name__} has {'an' if name == '__init__' else 'a'} {name} of its own, which wouldn't be called"


def _of_defaults(kind: Any, defaults: Iterable[tuple[str, object]]) -> str | None:
    for name, default in defaults:
        if is_word_of_a_field(default):
            return f"the default of {kind.__name__}.{name} is a {type(default).__name__}, which nobody has read"
    return None
