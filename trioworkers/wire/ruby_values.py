"""Ruby's values as ActiveJob writes them: Python's own where Python has the like, and three of ours where it hasn't.

ActiveJob tags what JSON doesn't know: `{"_aj_serialized": "ActiveJob::Serializers::DateSerializer", "value": …}`, and notes
for each hash which of its keys were symbols. What comes in loses its tags; what Python has no value for (a custom
serializer's object, the year 12000) stays the dict that it was, and goes out again as such.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from urllib.parse import quote_plus, unquote_plus, urlsplit

import attrs

from trioworkers.errors import BadJob
from trioworkers.wire.plain import taken_apart, with_text_keys

GLOBALID_KEY = "_aj_globalid"
SERIALIZED_KEY = "_aj_serialized"
INDIFFERENT_KEY = "_aj_hash_with_indifferent_access"
SYMBOL_KEYS_KEY = "_aj_symbol_keys"
KEYWORDS_KEY = "_aj_ruby2_keywords"
_HASH_KEYS = (INDIFFERENT_KEY, SYMBOL_KEYS_KEY, KEYWORDS_KEY)
_RESERVED = frozenset({GLOBALID_KEY, SERIALIZED_KEY, *_HASH_KEYS})
_NOTHING, _MINUTE = timedelta(), timedelta(minutes=1)
_PREFIX = "ActiveJob::Serializers::"


def _is_gid(_: object, __: attrs.Attribute[str], value: object) -> None:
    parts = urlsplit(value) if isinstance(value, str) else None
    if parts is None or parts.scheme != "gid" or not parts.netloc or parts.path.count("/") < 2:
        raise ValueError(f"a GlobalID is gid://APP/MODEL/ID, not {value!r}")


@attrs.frozen
class GlobalID:
    """The name of a record of a Rails app: `GlobalID("gid://shop/User/7")`. We don't look the record up. Raises ValueError for another form of URI."""

    uri: str = attrs.field(validator=_is_gid)

    @classmethod
    def of(cls, app: str, model: str, record_id: object) -> GlobalID:
        """The GlobalID of a model's record in an app: `GlobalID.of("shop", "User", 7)`."""
        return cls(f"gid://{app}/{model}/{quote_plus(str(record_id))}")

    @property
    def app(self) -> str:
        """The Rails app's name."""
        return urlsplit(self.uri).netloc

    @property
    def model(self) -> str:
        """The record's class, `User` or `Shop::User`."""
        return urlsplit(self.uri).path.split("/")[1]

    @property
    def id(self) -> str:
        """The record's id as text; of a composite one, its parts with `/` between."""
        return "/".join(unquote_plus(part) for part in urlsplit(self.uri).path.split("/")[2:])


@attrs.frozen
class Range:
    """A range of Ruby: `begin..end`, or with `exclude_end` `begin...end`. None means an open end."""

    begin: Any
    end: Any
    exclude_end: bool = False


class Symbol(str):
    """A text that Ruby reads as a symbol: `Symbol("now")` is `:now`. It may be a value or a key of a dict. Symbols from Ruby come here as plain texts."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Symbol({str(self)!r})"


# ── from Ruby ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@attrs.frozen
class Encoded:
    """An argument as ActiveJob wrote it, to be written so again: not all of what Ruby tells apart are two things in Python."""

    value: Any


def from_ruby(value: Any) -> Any:
    """The Python value of one of ActiveJob's encoded arguments. Raises nothing but RecursionError."""
    if isinstance(value, list):
        return [from_ruby(item) for item in value]
    if not isinstance(value, dict):
        return value
    if SERIALIZED_KEY in value or (len(value) == 1 and GLOBALID_KEY in value):
        return _object(value)
    return hash_from_ruby(value)


def hash_from_ruby(encoded: Mapping[str, Any]) -> dict[str, Any]:
    """The dict of an encoded hash, without the note on its keys."""
    note = _note(encoded)
    return {key: from_ruby(item) for key, item in encoded.items() if key != note}


def are_keywords(encoded: Any) -> bool:
    """Whether a last argument is a hash of keyword arguments."""
    return isinstance(encoded, dict) and _note(encoded) == KEYWORDS_KEY


def _note(encoded: Mapping[str, Any]) -> str | None:
    return next((key for key in _HASH_KEYS if key in encoded), None)


def _object(encoded: dict[str, Any]) -> Any:
    name = encoded.get(SERIALIZED_KEY, GLOBALID_KEY)
    read = _READERS.get(name) if isinstance(name, str) else None
    if read is None:
        return encoded
    try:
        return read(encoded)
    except (ValueError, TypeError, KeyError, ArithmeticError, AttributeError):  # no value of Python's: see above
        return encoded


def _moment(encoded: dict[str, Any]) -> datetime:
    moment = datetime.fromisoformat(encoded["value"])
    if moment.tzinfo is None:
        raise ValueError("Ruby's times have an offset")
    return moment


def _zoned_moment(encoded: dict[str, Any]) -> datetime:
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - only what talks to Rails meets zones with names

    moment, zone = _moment(encoded), encoded.get("time_zone")
    try:
        return moment.astimezone(ZoneInfo(zone)) if zone else moment
    except (KeyError, ValueError, TypeError, OSError):  # this machine doesn't know the zone; the offset says when it is
        return moment


def _duration(encoded: dict[str, Any]) -> timedelta:
    seconds = encoded["value"]
    return timedelta(seconds=float(seconds) if isinstance(seconds, str) else seconds)


def _range(encoded: dict[str, Any]) -> Range:
    return Range(from_ruby(encoded["begin"]), from_ruby(encoded["end"]), encoded.get("exclude_end") is True)


def _text(encoded: dict[str, Any]) -> str:
    text = encoded["value"]
    if not isinstance(text, str):
        raise TypeError(text)
    return text


def _decimal(encoded: dict[str, Any]) -> Decimal:
    return Decimal(_text(encoded))


_READERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    GLOBALID_KEY: lambda encoded: GlobalID(encoded[GLOBALID_KEY]),
    f"{_PREFIX}SymbolSerializer": _text,
    f"{_PREFIX}ModuleSerializer": _text,
    f"{_PREFIX}DateSerializer": lambda encoded: date.fromisoformat(encoded["value"]),
    f"{_PREFIX}TimeSerializer": _moment,
    f"{_PREFIX}DateTimeSerializer": _moment,
    f"{_PREFIX}TimeWithZoneSerializer": _zoned_moment,
    f"{_PREFIX}DurationSerializer": _duration,
    f"{_PREFIX}RangeSerializer": _range,
    f"{_PREFIX}BigDecimalSerializer": _decimal,
}


# ── to Ruby ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def to_ruby(value: Any, *, str_keys: bool = False) -> Any:  # noqa: C901, PLR0911 - one line for each kind of value
    """One argument as ActiveJob encodes it. Raises BadJob for what has no form there. `str_keys`: as `plain` has it."""
    match value:
        case Encoded():
            return value.value
        case Symbol():
            return _serialized("Symbol", value=str(value))
        case None | str() | int() | float():
            return value
        case GlobalID():
            return {GLOBALID_KEY: value.uri}
        case Range():
            ends = {"begin": to_ruby(value.begin), "end": to_ruby(value.end)}
            return _serialized("Range", **ends, exclude_end=value.exclude_end)
        case datetime():
            return _encoded_moment(value)
        case date():
            return _serialized("Date", value=value.isoformat())
        case timedelta():
            return _encoded_duration(value)
        case Decimal():
            return _encoded_decimal(value)
        case list() | tuple() | set() | frozenset():
            return [to_ruby(item, str_keys=str_keys) for item in value]
        case dict():
            # With a tag it is what a custom serializer wrote, or what Python has no value for: on its way back.
            if SERIALIZED_KEY in value:
                return value
            return _hash(value, SYMBOL_KEYS_KEY, _symbols(value), str_keys=str_keys)
    return to_ruby(_built_in(value), str_keys=True)


def keywords_to_ruby(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments as the hash that Rails from 6.0.3 on unfolds. Raises BadJob."""
    return _hash(kwargs, KEYWORDS_KEY, kwargs)


def _hash(value: Mapping[str, Any], note: str, symbols: Iterable[str], *, str_keys: bool = False) -> dict[str, Any]:
    items = dict(with_text_keys(value, str_keys=str_keys))
    if not _RESERVED.isdisjoint(items):
        raise BadJob("a key of a hash is one of ActiveJob's own")
    return {str(key): to_ruby(item, str_keys=str_keys) for key, item in items.items()} | {note: [*map(str, symbols)]}


def _symbols(value: Mapping[str, Any]) -> list[str]:
    return [key for key in value if isinstance(key, Symbol)]


def _serialized(kind: str, **fields: Any) -> dict[str, Any]:
    return {SERIALIZED_KEY: f"{_PREFIX}{kind}Serializer", **fields}


def _encoded_moment(value: datetime) -> dict[str, Any]:
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - as above

    zone = value.tzinfo
    text = moment_text(value)
    if isinstance(zone, ZoneInfo) and zone.key:
        return _serialized("TimeWithZone", value=text, time_zone=zone.key)
    return _serialized("Time", value=text)


def moment_text(value: datetime) -> str:
    """A moment as Rails writes it: ISO 8601 with nine decimals. Without a time zone it is local time, as everywhere in Python."""
    try:
        offset = (value if value.tzinfo else value.astimezone()).utcoffset() or _NOTHING
        if offset % _MINUTE:  # zones of long ago; Ruby reads hours and minutes only
            offset = _NOTHING
        shown = value.astimezone(timezone(offset))
    except (OverflowError, ValueError, OSError) as error:
        raise BadJob(f"{value} can't be written as ActiveJob's JSON: {error}") from error
    text, sign = shown.replace(tzinfo=None).isoformat(timespec="microseconds"), shown.isoformat()[-6:]
    return f"{text}000{'Z' if value.tzinfo is UTC else sign}"


def _encoded_duration(value: timedelta) -> dict[str, Any]:
    # In seconds alone: Rails counts days and months by the calendar, a timedelta doesn't. A float, as there: from 270 years on it rounds to two microseconds.
    whole, rest = divmod(value, timedelta(seconds=1))
    seconds = value.total_seconds() if rest else whole
    return _serialized("Duration", value=seconds, parts=[[to_ruby(Symbol("seconds")), seconds]] if seconds else [])


def _encoded_decimal(value: Decimal) -> str:
    # Rails up to 7.0 writes decimals as texts, and cannot read the tag that later ones write; all read a text.
    if not value.is_finite():
        raise BadJob(f"{value} can't be written as JSON")
    return str(value)


def _built_in(value: Any) -> Any:
    try:
        return taken_apart(value, (datetime, date, timedelta, Decimal))
    except (TypeError, ValueError, RecursionError) as error:
        # Without the error itself: what others' code says of a value may quote it.
        raise BadJob(f"{type(value).__name__} can't be written as ActiveJob's JSON ({type(error).__name__})") from None
