"""Values as JSON has them: what a job's arguments may be, and what Ruby could not read."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import attrs
import msgspec

from trioworkers.errors import BadJob
from trioworkers.wire.depth import MAX_DEPTH_FOR_RUBY


def shown(value: object) -> str:
    """`value` in an error's text: cut short."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


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
        return {key: plain(item, depth + 1, str_keys=str_keys) for key, item in _with_text_keys(value, str_keys)}
    try:
        return plain(_taken_apart(value), depth, str_keys=True)
    except (TypeError, ValueError, AttributeError, RecursionError) as error:
        # Without the error itself: what others' code says of a value may quote it.
        raise BadJob(f"{type(value).__name__} can't be written as JSON ({type(error).__name__})") from None


def _with_text_keys(value: dict[Any, Any], str_keys: bool) -> Iterable[tuple[str, Any]]:
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


def _taken_apart(value: Any) -> Any:
    """`value` one level nearer to JSON. By fields ourselves: msgspec leaves out those of attrs classes that begin with `_`."""
    kind: Any = type(value)
    names = _field_names(kind)
    if names is not None:
        return {name: item for name in names if (item := getattr(value, name)) is not msgspec.UNSET}
    dump = getattr(type(value), "model_dump", None)  # pydantic's models
    if dump is not None:
        return dump(value, mode="json", by_alias=True, round_trip=True, warnings="error")
    return msgspec.to_builtins(value, str_keys=True)


@lru_cache(maxsize=1024)
def _field_names(kind: Any) -> tuple[str, ...] | None:
    if attrs.has(kind):
        return tuple(field.name for field in attrs.fields(kind))
    import dataclasses  # noqa: PLC0415 - few arguments are of such classes

    return tuple(field.name for field in dataclasses.fields(kind)) if dataclasses.is_dataclass(kind) else None
