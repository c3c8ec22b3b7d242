"""Describes a failure: its class, its message, the calls that led to it; for the payload, the log and whoever keeps a record.

What a handler raises is a stranger's object: its class may have no module, its `__str__` raise or return a megabyte, its `__cause__` be a
property that makes up another error at every look. Nothing here can raise, and all that it says is bounded. So of an exception only
`str()` is asked; everything else is read from where Python itself keeps it, past whatever its class puts in the way.
"""

from __future__ import annotations

import base64
import traceback
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any

import msgspec

from trioworkers.stacks import without_unreadable

MAX_MESSAGE = 10_000
MAX_NAME = 200
MAX_LEAVES = 1000
"""Of a group, so many errors are looked at."""
MAX_FRAMES = 200
MAX_LINE = 300
"""Of a traceback so many calls are told, the innermost, each in so many characters."""
MAX_LINKS = 50
MAX_SHOWN = 100_000
"""An error that follows from more others, or says more characters than that, is shown by itself, and cut."""

# Python's own places for what a class may hide behind a property.
_EXCEPTIONS: Callable[[BaseException], tuple[BaseException, ...]] = BaseExceptionGroup.__dict__["exceptions"].__get__
_TRACEBACK: Callable[[BaseException], TracebackType | None] = BaseException.__dict__["__traceback__"].__get__
_CAUSE: Callable[[BaseException], BaseException | None] = BaseException.__dict__["__cause__"].__get__
_CONTEXT: Callable[[BaseException], BaseException | None] = BaseException.__dict__["__context__"].__get__
_MRO: Callable[[type], tuple[type, ...]] = type.__dict__["__mro__"].__get__
_NAMES: Callable[[type], Mapping[str, object]] = type.__dict__["__dict__"].__get__
_MODULE = type.__dict__["__module__"].__get__
_QUALNAME = type.__dict__["__qualname__"].__get__


class Undescribable(Exception):
    """Stands in for an error that can't be looked at without harm: with its class's name and its message, as far as they can be had."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}")
        self.name = name
        self.message = message


# ── what it is ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def is_a(error: BaseException, kind: type | tuple[type, ...]) -> bool:
    """`isinstance`, but the error isn't asked: its `__class__` may be a property."""
    return issubclass(type(error), kind)


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors in a group and the groups inside it; of a single error, itself. Up to `MAX_LEAVES`."""
    waiting = [error]
    for _ in range(MAX_LEAVES):
        while waiting and is_a(
            waiting[-1], BaseExceptionGroup
        ):  # not by recursion: they may be nested deeper than Python's stack
            waiting.extend(reversed(_EXCEPTIONS(waiting.pop())[:MAX_LEAVES]))
        if not waiting:
            return
        yield waiting.pop()


def is_small(error: BaseException) -> bool:
    """Whether a group may be taken apart by Python, which visits a member as often as it meets it: sixty groups of twice the one before take it for ever."""
    waiting = [error]
    for _ in range(MAX_LEAVES):
        if not waiting:
            return True
        one = waiting.pop()
        if is_a(one, BaseExceptionGroup):
            waiting += _EXCEPTIONS(one)[: MAX_LEAVES + 1]
    return not waiting


def class_name(error: BaseException) -> str:
    """`ValueError`, `httpx.ReadTimeout`: the name under which people look an error up."""
    if type(error) is Undescribable:
        return error.name
    kind = type(error)
    name = _plain(_QUALNAME(kind), MAX_NAME)
    try:
        module = _MODULE(kind)
    except AttributeError:
        module = None
    if not isinstance(module, str):
        return name
    module = _plain(module, MAX_NAME)  # else a text of its own kind would be asked what it is equal to
    if module == "builtins":
        return name
    return f"{'trioworkers' if module.startswith('trioworkers.') else module}.{name}"


def summary(error: BaseException) -> tuple[str, str]:
    """`(class, message)` for people and for the payload: of a group without a text of its own, its root causes."""
    roots = list(leaves(error))
    if len(roots) == 1:
        return class_name(roots[0]), _message(roots[0])
    if is_a(error, BaseExceptionGroup) and type(error) not in (ExceptionGroup, BaseExceptionGroup):
        return class_name(error), _message(error)
    return class_name(error), _joined(roots)


def _joined(roots: list[BaseException]) -> str:
    text = ""
    for root in roots:
        if len(text) >= MAX_MESSAGE:
            break
        text += f"{'; ' if text else ''}{class_name(root)}: {_message(root)}"
    return text[:MAX_MESSAGE]


def _message(error: BaseException) -> str:
    if type(error) is Undescribable:
        return error.message
    try:
        text = str(error)
    except BaseException:  # noqa: BLE001 - even KeyboardInterrupt: whatever a text raises, its job still has an outcome
        return f"<{class_name(error)} without a readable message>"
    return _plain(text, MAX_MESSAGE)


def _plain(text: str, limit: int) -> str:
    """A str and nothing else, of at most `limit` characters, that has a form in UTF-8."""
    return str.__getitem__(text, slice(limit)).encode(errors="replace").decode()


# ── where it was ───────────────────────────────────────────────────────────────────────────────────────────────────────


def trace(error: BaseException) -> list[str]:
    """The calls that led to an error, innermost first, as Ruby writes them.

    A group's begins where its first error was raised: where the nursery ended says little.
    """
    lines = _calls(_TRACEBACK(error))
    for _ in range(MAX_LINKS):
        if not is_a(error, BaseExceptionGroup):
            break
        error = _EXCEPTIONS(error)[0]
        lines[:0] = _calls(_TRACEBACK(error))
    return lines[:MAX_FRAMES]


def _calls(first: TracebackType | None) -> list[str]:
    frames: deque[TracebackType] = deque(maxlen=MAX_FRAMES)
    while first is not None:
        frames.append(first)
        first = first.tb_next
    codes = ((each.tb_frame.f_code, each.tb_lineno) for each in reversed(frames))
    return [
        _plain(f"{_plain(code.co_filename, MAX_LINE)}:{line}:in `{_plain(code.co_name, MAX_LINE)}'", MAX_LINE)
        for code, line in codes
    ]


def raised_at(error: BaseException) -> TracebackType | None:
    """Its traceback, whatever its class says of that."""
    return _TRACEBACK(error)


def innermost_module(error: BaseException) -> str | None:
    """The module of the call that raised an error; None if it was never raised."""
    first = _TRACEBACK(error)
    if first is None:
        return None
    while first.tb_next is not None:
        first = first.tb_next
    name = dict.get(first.tb_frame.f_globals, "__name__")  # which may be a dict of their own kind
    return name if type(name) is str else None


def encode_backtrace(error: BaseException, limit: int | None) -> str:
    """The innermost `limit` calls (all for None) as Sidekiq stores them: strict base64 of zlib of a JSON array of lines."""
    return base64.b64encode(zlib.compress(msgspec.json.encode(trace(error)[:limit]))).decode()


# ── what others may look at ────────────────────────────────────────────────────────────────────────────────────────────


def harmless(error: BaseException) -> BaseException:
    """`error`, if whoever formats a traceback can look at it and all that it follows from; else a stand-in with the same traceback."""
    waiting, seen, met = [error], set(), 0
    while waiting:
        one = waiting.pop()
        met += 1
        if met > MAX_LINKS or (id(one) not in seen and not (_is_plain(one) and _is_readable(one))):
            return stand_in(error)
        seen.add(id(one))
        waiting += [each for each in (_CAUSE(one), _CONTEXT(one)) if each is not None and id(each) not in seen]
        if is_a(
            one, BaseExceptionGroup
        ):  # each is shown as often as it is a member: sixty groups of twice the one before have no end
            waiting += _EXCEPTIONS(one)[: MAX_LINKS + 1]
    return error


def stand_in(error: BaseException) -> Undescribable:
    """What can be said of an error without asking it for more than its text."""
    return Undescribable(*summary(error)).with_traceback(without_unreadable(_TRACEBACK(error)))


def _is_readable(error: BaseException) -> bool:
    return without_unreadable(_TRACEBACK(error)) is _TRACEBACK(error)


_READ = frozenset(
    ("__class__", "__cause__", "__context__", "__suppress_context__", "__traceback__", "__getattribute__", "exceptions")
)
_OURS = (BaseException, BaseExceptionGroup, object)
_READ_FURTHER = (SyntaxError, ImportError, NameError, AttributeError)


def _is_plain(error: BaseException) -> bool:
    """Whether to read an error's attributes is to read what Python keeps there, and all that it says is of bearable size."""
    kind = type(error)
    if any(not _READ.isdisjoint(_NAMES(each)) for each in _MRO(kind) if each not in _OURS):
        return False
    try:
        # Its metaclass may have its say in the first two.
        texts = [kind.__module__, kind.__qualname__, str(error), *_notes(error)]
        fit = all(type(text) is str for text in texts) and sum(map(len, texts)) <= MAX_SHOWN
        if fit:
            "".join(texts).encode()  # a log's stream is mostly UTF-8
        if fit and is_a(error, _READ_FURTHER):  # Python's formatter looks at more of these, which may be of any type
            traceback.format_exception_only(error)
    except BaseException:  # noqa: BLE001 - as in _message
        return False
    return fit


def _notes(error: BaseException) -> list[Any]:
    """The notes of an error, which are texts; something that isn't one if they aren't."""
    notes: Any = getattr(error, "__notes__", None)
    if notes is None:
        return []
    return notes if type(notes) is list else [None]
