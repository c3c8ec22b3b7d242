"""Call stacks with their lines of source, for the log. Looking at one waits for nobody, runs nobody's code, and is bounded.

Python's own functions open whatever file a piece of code says that it came from (a pipe that nobody writes to, a device without an end), and ask
the module's loader, which may be anything. Here only files of a bearable size are read, and archives by Python's own importer.
"""

from __future__ import annotations

import linecache
import stat
import traceback
import zipimport
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from enum import Enum, auto
from importlib.machinery import ExtensionFileLoader, SourceFileLoader, SourcelessFileLoader
from itertools import islice
from pathlib import Path
from types import CodeType, FrameType, TracebackType
from typing import Any

MAX_CALLS = 1000
"""The innermost, as many as Python nests without further ado."""
MAX_SOURCE_BYTES = 4 << 20
MAX_LINE = 500
MAX_NAME = 1000
_NO_POSITION = (None, None, None, None)


_LOADERS = (zipimport.zipimporter, SourceFileLoader, SourcelessFileLoader, ExtensionFileLoader)
"""Python's own."""


class _Source(Enum):
    """Where the source of a piece of code is."""

    FILE = auto()
    CACHE = auto()
    LOADER = auto()
    NOWHERE = auto()
    UNSAFE = auto()


def calls_to(error_at: TracebackType | None, wanted: Callable[[str], bool]) -> traceback.StackSummary:
    """Those of a traceback, outermost first, in files that are `wanted`."""
    return _summary(((each.tb_frame, each.tb_lineno, each.tb_lasti) for each in _links(error_at)), wanted)


def calls_of(frames: Iterable[FrameType]) -> traceback.StackSummary:
    """Those of running or waiting code, in this order."""
    return _summary((each, each.f_lineno, -1) for each in frames)


def without_unreadable(error_at: TracebackType | None) -> TracebackType | None:
    """A traceback that whoever formats it may read the source of: the same one, or another without the calls of which that isn't so."""
    links = _links(error_at)
    if all(_is_harmless(each.tb_frame) for each in links):
        return error_at
    kept = None
    for each in reversed([*links]):
        if _is_harmless(each.tb_frame):
            kept = TracebackType(kept, each.tb_frame, each.tb_lasti, each.tb_lineno)
    return kept


def _is_harmless(frame: FrameType) -> bool:
    """Whether Python's own functions find its source, or don't, without running or waiting for anything."""
    name = frame.f_code.co_filename
    if type(frame.f_globals) is not dict or type(name) is not str or type(frame.f_code.co_name) is not str:
        return False
    return _source_of(name, frame) is not _Source.UNSAFE


def outer_frames(frame: FrameType | None, most: int = MAX_CALLS) -> list[FrameType]:
    """A frame and what called it, outermost first; the innermost `most`."""
    found: list[FrameType] = []
    while frame is not None and len(found) < most:
        found.append(frame)
        frame = frame.f_back
    return found[::-1]


def _links(first: TracebackType | None) -> Iterable[TracebackType]:
    found: deque[TracebackType] = deque(maxlen=MAX_CALLS)
    while first is not None:
        found.append(first)
        first = first.tb_next
    return found


def _summary(
    calls: Iterable[tuple[FrameType, int | None, int]], wanted: Callable[[str], bool] = lambda _: True
) -> traceback.StackSummary:
    readable: dict[str, bool] = {}
    found = []
    for frame, line, instruction in calls:
        name = _plain(frame.f_code.co_filename)
        if wanted(name):
            if name not in readable:
                readable[name] = _is_readable(name, frame)
            found.append(_call(frame.f_code, name, line, instruction, is_readable=readable[name]))
    return traceback.StackSummary.from_list(found)


def _call(
    code: CodeType, filename: str, line: int | None, instruction: int, *, is_readable: bool
) -> traceback.FrameSummary:
    called = _plain(code.co_name)
    first, last, begin, end = _position(code, instruction)
    first = line if first is None else first
    if not is_readable or first is None:
        return traceback.FrameSummary(filename, first, called, lookup_line=False, line="")
    lines = [linecache.getline(filename, number) for number in range(first, min(last or first, first + 3) + 1)]
    if any(len(each) > MAX_LINE for each in lines):
        return traceback.FrameSummary(filename, first, called, lookup_line=False, line=f"{lines[0][:MAX_LINE]}…")
    return traceback.FrameSummary(
        filename, first, called, lookup_line=False, end_lineno=last, colno=begin, end_colno=end
    )


def _position(code: CodeType, instruction: int) -> tuple[int | None, int | None, int | None, int | None]:
    """First and last line, and the columns; None where that is unknown."""
    if instruction < 0:
        return _NO_POSITION
    positions: Iterator[Any] = islice(code.co_positions(), instruction // 2, None)
    return next(positions, _NO_POSITION)


def _is_readable(filename: str, frame: FrameType) -> bool:
    """Whether `linecache` may be asked for its lines. It looks at the file anew then."""
    match _source_of(filename, frame):
        case _Source.FILE:
            linecache.checkcache(filename)
            return True
        case _Source.LOADER:
            names = {each: dict.get(frame.f_globals, each) for each in ("__loader__", "__name__")}
            return linecache.lazycache(filename, names)
        case source:
            return source is _Source.CACHE


def _source_of(filename: str, frame: FrameType) -> _Source:
    if filename.startswith("<") and filename.endswith(">"):  # made up: it is in the cache, or nowhere
        return _Source.CACHE
    try:
        found = Path(filename).stat()
    except (OSError, ValueError):
        loader, name = dict.get(frame.f_globals, "__loader__"), dict.get(frame.f_globals, "__name__")
        return _Source.LOADER if type(loader) in _LOADERS and type(name) is str else _Source.NOWHERE
    is_readable = stat.S_ISREG(found.st_mode) and found.st_size <= MAX_SOURCE_BYTES
    return _Source.FILE if is_readable else _Source.UNSAFE


def _plain(text: str) -> str:
    """A str and nothing else: code may say that it came from a text of its own kind."""
    return str.__getitem__(text, slice(MAX_NAME))
