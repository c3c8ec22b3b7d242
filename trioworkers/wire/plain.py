"""Values as JSON has them: what a job's arguments may be, and what Ruby could not read."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import attrs
import msgspec

from trioworkers.errors import BadJob
from trioworkers.wire.depth import MAX_DEPTH_FOR_RUBY


def shown(value: object) -> str:
    """`value` in an error's text: cut short."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no number of more than some thousand digits
        text = "a number of very many digits"
    return text if len(text) <= 80 else f"{text[:77]}…"


def why_unwritten(error: Exception) -> str:
    """Why a value can't be written as JSON, without anything of the value, and in our words where Python's lead astray."""
    if isinstance(error, UnicodeEncodeError):
        return "a text has half a character in it (a lone surrogate), which can't be written in UTF-8"
    if isinstance(error, ValueError) and "integer string conversion" in str(error):
        return f"a number has more than {sys.get_int_max_str_digits():,} digits"
    return str(error)


_PLAIN = frozenset({str, int, bool, type(None)})


def plain(value: Any, depth: int = 2, *, str_keys: bool = False) -> Any:
    """`value` as JSON's types, refusing what Ruby could not read: NaN, infinities, great depth, and keys that are no strings.

    `str_keys`: keys of numbers, dates and the like become their texts, as they do in classes with fields, whose readers know what they were.
    """
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        raise BadJob(f"{value} can't be written as JSON")
    if depth > MAX_DEPTH_FOR_RUBY:
        raise BadJob(f"arguments nested deeper than {MAX_DEPTH_FOR_RUBY} levels: Ruby could not read them")
    if isinstance(value, (list, tuple)) and _PLAIN.issuperset(map(type, value)):
        return value
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item, depth + 1, str_keys=str_keys) for item in value]
    if isinstance(value, dict):
        return {key: plain(item, depth + 1, str_keys=str_keys) for key, item in with_text_keys(value, str_keys)}
    try:
        return plain(taken_apart(value), depth, str_keys=True)
    except (TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        # Without the error itself: what others' code says of a value may quote it.
        raise BadJob(f"{type(value).__name__} can't be written as JSON ({type(error).__name__})") from None


def with_text_keys(value: Mapping[Any, Any], str_keys: bool) -> Iterable[tuple[str, Any]]:
    """The items of a JSON object. Raises BadJob for keys that are no texts, or with `str_keys` that can't become different texts."""
    if all(isinstance(key, str) for key in value):
        return value.items()
    if not str_keys:
        raise BadJob("keys of a JSON object are strings")
    try:
        keys = list(msgspec.to_builtins(dict.fromkeys(value), str_keys=True))
    except (TypeError, ValueError) as error:
        raise BadJob("keys of a JSON object are strings, which these can't become") from error
    if len(keys) < len(value):
        raise BadJob("two keys of a dict would be the same in JSON")
    return zip(keys, value.values(), strict=True)


def taken_apart(value: Any, kept: tuple[type, ...] = ()) -> Any:
    """`value` one level nearer to JSON; what msgspec finds of `kept` stays. By fields ourselves: msgspec leaves out those of attrs classes that begin with `_`, and knows no models."""
    kind: Any = type(value)
    if isinstance(value, msgspec.Struct):
        return _of_struct(value)
    names = _field_names(kind)
    if names is not None:
        return {name: item for name in names if (item := getattr(value, name)) is not msgspec.UNSET}
    dump = getattr(type(value), "model_dump", None)  # pydantic's models
    if dump is not None:
        return dump(value, mode="json", by_alias=True, round_trip=True, warnings="error")
    if isinstance(value, datetime) and (offset := value.utcoffset()) is not None and offset.total_seconds() % 60.0:
        value = value.astimezone(UTC)  # JSON's texts have offsets in minutes; old ones of zones have seconds, too
    return msgspec.to_builtins(value, builtin_types=kept, str_keys=True)


@lru_cache(maxsize=1024)
def _field_names(kind: Any) -> tuple[str, ...] | None:
    if attrs.has(kind):
        return tuple(field.name for field in attrs.fields(kind))
    import dataclasses  # noqa: PLC0415 - few arguments are of such classes

    return tuple(field.name for field in dataclasses.fields(kind)) if dataclasses.is_dataclass(kind) else None


def _of_struct(value: msgspec.Struct) -> Any:
    """A Struct's fields as its class says that they are written: renamed, with a tag, as an array, without what is usual."""
    config = value.__struct_config__
    fields = [(field, getattr(value, field.name)) for field in msgspec.structs.fields(value)]
    if config.array_like:
        return [*([] if config.tag is None else [config.tag]), *(item for _, item in fields)]
    named = {} if config.tag is None else {config.tag_field: config.tag}
    for field, item in fields:
        if item is not msgspec.UNSET and not (config.omit_defaults and _is_usual(field, item)):
            named[field.encode_name] = item
    return named


def _is_usual(field: msgspec.structs.FieldInfo, item: Any) -> bool:
    if type(item) in (list, dict, set):
        return not item and field.default_factory is type(item)
    return item is field.default
