"""`--where FIELD OP VALUE`: the one filter of all commands. Pure: entries in, yes or no out.

Text fields take = != ~ !~ (a regular expression found anywhere, in any case), numbers and times = != > >= < <=. Several filters
must all hold.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Sequence

import attrs

from trioworkers.errors import WrongUsage
from trioworkers.wire.entry import Entry

Test = Callable[[Entry, float], bool]

_TEXTS: dict[str, Callable[[Entry], Iterable[str]]] = {
    "class": lambda entry: entry.classes,
    "queue": lambda entry: (entry.queue,),
    "jid": lambda entry: (entry.jid,),
    "error": lambda entry: (entry.error_class, entry.error_message),
    "args": lambda entry: (entry.args.decode(errors="replace"),),
    "tag": lambda entry: entry.tags,
    "batch": lambda entry: (entry.batch,),
    "process": lambda entry: (entry.process_id,),
}
_NUMBERS: dict[str, Callable[[Entry, float], float | None]] = {
    "attempt": lambda entry, _: entry.attempt,
    "size": lambda entry, _: len(entry.payload),
    "age": lambda entry, now_s: None if entry.since_s is None else now_s - entry.since_s,
    "due": lambda entry, now_s: None if entry.due_s is None else entry.due_s - now_s,
}
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_SECONDS: dict[str, float] = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_BYTES: dict[str, float] = {"": 1, "b": 1, "k": 1024, "kb": 1024, "m": 1024**2, "mb": 1024**2}
_FILTER = re.compile(r"\s*(\w+)(\s*)(!=|!~|>=|<=|=|~|>|<)(.*)", re.DOTALL)

FIELDS = ", ".join([*_TEXTS, *_NUMBERS])


@attrs.frozen
class Where:
    """Filters that must all hold; none holds always."""

    tests: Sequence[Test] = ()

    def __bool__(self) -> bool:
        return bool(self.tests)

    def matches(self, entry: Entry, now_s: float) -> bool:
        """`now_s`: Redis's time in epoch seconds."""
        return all(test(entry, now_s) for test in self.tests)


def parse_where(texts: Sequence[str]) -> Where:
    """Raises WrongUsage with what is wrong and what would be right."""
    return Where([_parse(text) for text in texts])


def _parse(text: str) -> Test:
    parts = _FILTER.fullmatch(text)
    if parts is None:
        raise WrongUsage(
            f"--where {text!r}: not FIELD OP VALUE, like class=TrackUserJob, error~timeout, age>1h; fields: {FIELDS}"
        )
    name, apart, op, value = parts.groups()
    if apart:  # `class = A` is the class A; `class= A` is one that begins with a space
        value = value.lstrip()
    if name in _TEXTS:
        return _text_test(text, name, op, value)
    if name in _NUMBERS:
        return _number_test(text, name, op, value)
    raise WrongUsage(f"--where {text!r}: no field {name!r}; there are {FIELDS}")


def _text_test(text: str, name: str, op: str, value: str) -> Test:
    get = _TEXTS[name]
    if op in ("=", "!="):
        return lambda entry, _: (value in get(entry)) is (op == "=")
    if op in ("~", "!~"):
        try:
            pattern = re.compile(value, re.IGNORECASE)
        except re.error as error:
            raise WrongUsage(f"--where {text!r}: no regular expression: {error}") from None
        return lambda entry, _: any(pattern.search(found) for found in get(entry)) is (op == "~")
    raise WrongUsage(f"--where {text!r}: {name} is a text: it takes = != ~ !~")


def _number_test(text: str, name: str, op: str, value: str) -> Test:
    if op not in _COMPARE:
        raise WrongUsage(f"--where {text!r}: {name} is a number: it takes {' '.join(_COMPARE)}")
    get, compare, wanted = _NUMBERS[name], _COMPARE[op], _number(text, name, value)

    def test(entry: Entry, now_s: float) -> bool:
        found = get(entry, now_s)
        return found is not None and compare(found, wanted)

    return test


def _number(text: str, name: str, value: str) -> float:
    parts = re.fullmatch(r"(-?\d+(?:\.\d+)?)\s*([a-z]*)", value.strip().lower())
    units = {"": 1.0} if name == "attempt" else _BYTES if name == "size" else _SECONDS
    if parts is None or parts[2] not in units:
        example = {"attempt": "a number, like 3", "size": "bytes, like 512 or 10k"}.get(
            name, "a time, like 30s, 5m, 1h, 2d"
        )
        raise WrongUsage(f"--where {text!r}: {value!r} is not {example}")
    return float(parts[1]) * units[parts[2]]
