"""How the values of one annotation come out of a job's JSON and go into it: by msgspec, or where pydantic's words stand by pydantic.

What a job carries is JSON, so pydantic reads JSON, too: in its strict mode a text still becomes a datetime there, and a constrained `int` is as
strict as a plain one. Models keep the strictness that they were given.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from datetime import UTC, datetime
from functools import partial
from types import UnionType
from typing import Any, Union, cast, get_args, get_origin

import msgspec

from trioworkers.jobs.annotations import Unbindable, makeup
from trioworkers.jobs.refusals import told
from trioworkers.wire.plain import plain
from trioworkers.wire.ruby_values import Symbol

SCALARS = frozenset({int, str, bool, type(None)})


def scalars(annotation: Any) -> frozenset[Any]:
    """The types of values that are in JSON what they are, and stay so when they are read as `annotation`, whichever they are."""
    if annotation is Any:
        return SCALARS
    of_union = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    named = {type(None) if each is None else each for each in of_union if isinstance(each, Hashable)}
    return SCALARS & named if named <= SCALARS else frozenset()


class Conversion:
    """One annotation's. `by_pydantic`: it reads and writes; else msgspec does."""

    def __init__(self, annotation: Any) -> None:
        """Raises Unbindable."""
        found = makeup(annotation)
        self._str_keys = found.keys or found.fields
        self._names = frozenset(found.names)
        self._enums = frozenset(found.enums)
        self.by_pydantic = found.by_pydantic
        if self.by_pydantic:
            self._adapter = _adapter(annotation)
            # Where no class of pydantic's says how strict it is, a constrained type is as strict as a plain one.
            self._strict = None if found.model or self._names else True
            self._read: Callable[[Any], Any] = self._read_json
        else:
            self._take = partial(msgspec.convert, type=annotation, dec_hook=_convert_custom)
            self._read = partial(msgspec.convert, type=annotation, dec_hook=_convert_custom, str_keys=True)

    def read(self, value: Any) -> Any:
        """The value for the parameter. Raises ValueError, whose text quotes nothing of `value`."""
        try:
            return self._read(value)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - validators and __post_init__s are the user's, and raise what they like
            raise ValueError(told(error, self._names)) from None

    def write(self, value: Any) -> Any:
        """`value` in JSON's types. Raises BadJob, or ValueError as `read` does."""
        if not self.by_pydantic:
            return plain(value, str_keys=self._str_keys)
        try:
            written = self._adapter.dump_python(value, mode="json", by_alias=True, round_trip=True, warnings="error")
        except Exception as error:
            raise ValueError(f"pydantic can't write {type(value).__name__} as that") from error
        return plain(written)

    def check(self, value: Any) -> None:
        """That `value` is of the annotation's kind, before it is written: bytes and dates become texts, too. Raises ValueError as `read` does."""
        if self.by_pydantic:
            return  # which looks itself when it writes
        try:
            self._take(_with_values(value, self._enums) if self._enums else value)
        except Exception as error:  # noqa: BLE001 - as above
            raise ValueError(told(error, self._names)) from None

    def is_same(self, value: Any, again: Any) -> bool:
        """Whether `again`, which was read from what `value` was written as, says the same."""
        if self.by_pydantic:  # by fields: models compare what is private, too, and secrets are written as asterisks
            dump = partial(self._adapter.dump_python, serialize_as_any=True)  # what a subclass has would be lost
            try:
                return _say_the_same(dump(value), dump(again)) and _have_same_excluded(value, again)
            except Exception:  # noqa: BLE001 - no set can hold the fields of a model: then the models are compared
                return _are_equal(value, again)
        return _are_equal(again, value) or self._in_order(again) == self._in_order(value)

    def _in_order(self, value: Any) -> Any:
        return msgspec.to_builtins(plain(value, str_keys=self._str_keys), order="deterministic")

    def _read_json(self, value: Any) -> Any:
        return self._adapter.validate_json(msgspec.json.encode(value), strict=self._strict)


def _are_equal(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except Exception:  # noqa: BLE001 - an array's, or a class's own comparison that fails: then what they carry is compared
        return False


def _say_the_same(one: Any, other: Any) -> bool:
    return _are_equal(one, other) or _are_equal(_in_utc(one), _in_utc(other))


def _in_utc(value: Any) -> Any:
    """`value` with its moments in UTC: Python takes no moment of an hour that a zone has twice, or skips, for equal to the same one in another zone."""
    if isinstance(value, datetime):
        return value if value.tzinfo is None else value.astimezone(UTC)
    if isinstance(value, dict):
        return {_in_utc(key): _in_utc(item) for key, item in value.items()}
    for kind in (list, tuple, set, frozenset):
        if isinstance(value, kind):
            return kind(map(_in_utc, value))
    return value


def _with_values(value: Any, enums: frozenset[type]) -> Any:
    """`value` with the values of its members of `enums`: msgspec takes members that are texts or numbers themselves, others it only makes."""
    if type(value) in enums:
        return value.value
    if isinstance(value, dict):
        return {_with_values(key, enums): _with_values(item, enums) for key, item in value.items()}
    for kind in (list, tuple, set, frozenset):
        if isinstance(value, kind):
            return kind(_with_values(item, enums) for item in value)
    return value


def _have_same_excluded(one: Any, other: Any) -> bool:
    """Whether two values that pydantic writes alike have the same in fields that it leaves out (`Field(exclude=True)`)."""
    if isinstance(one, dict):
        return all(map(_have_same_excluded, one.values(), other.values()))  # in JSON, too, they have an order
    if isinstance(one, list | tuple):
        return all(map(_have_same_excluded, one, other))
    for name, field in (getattr(type(one), "__pydantic_fields__", None) or {}).items():
        its, others = getattr(one, name, None), getattr(other, name, None)
        left_out = field.exclude or getattr(field, "exclude_if", None)
        if not (_are_equal(its, others) if left_out else _have_same_excluded(its, others)):
            return False
    return True


def _adapter(annotation: Any) -> Any:
    try:
        import pydantic  # noqa: PLC0415 - not needed by who doesn't use it
    except ImportError:
        raise Unbindable("that needs pydantic, which isn't installed") from None
    try:
        adapter = pydantic.TypeAdapter(annotation)
        adapter.rebuild()
    except Exception as error:
        raise Unbindable(f"pydantic can't read it: {str(error).partition(chr(10))[0]}") from error
    try:
        adapter.validate_json(b"null")
    except pydantic.errors.PydanticUserError as error:
        raise Unbindable(f"pydantic can't read it: {str(error).partition(chr(10))[0]}") from error
    except Exception:  # noqa: BLE001, S110 - null doesn't fit: nothing wrong with the annotation
        pass
    if (kind := _instance_of(adapter.core_schema)) is not None:
        raise Unbindable(f"{kind.__name__} can't be read from JSON, and it doesn't tell pydantic how")
    return adapter


_MAY_MAKE_ONE = frozenset({"union", "function-before", "function-wrap", "function-plain"})


def _instance_of(schema: Any) -> type | None:
    """The class of which pydantic would want an instance from JSON, where a model says `arbitrary_types_allowed`."""
    waiting = [schema]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list | tuple):
            waiting.extend(one)
        elif isinstance(one, dict):
            if one.get("type") == "is-instance" and isinstance(one.get("cls"), type):
                return cast("type", one["cls"])
            if one.get("type") == "json-or-python":
                waiting.append(one["json_schema"])
            elif one.get("type") not in _MAY_MAKE_ONE:
                waiting.extend(
                    value for key, value in one.items() if key not in ("metadata", "default", "serialization")
                )
    return None


def _convert_custom(kind: type, value: Any) -> Any:
    """Types that msgspec doesn't know: pydantic models read themselves."""
    if isinstance(value, kind):
        return value
    validate = getattr(kind, "model_validate_json", None)
    if validate is not None:
        return validate(msgspec.json.encode(value))
    if issubclass(kind, Symbol) and isinstance(value, str):
        return kind(value)
    raise ValueError(f"expected {kind.__name__}, got {type(value).__name__}")
