"""Makes records for lines that are logged thousands of times a second: what `logging` would make, in a fifth of the time; and none where nobody would see it.

Most of a record is the same in all of a level and a process. That is made once, by `logging`, and copied. Where the program makes
records in a way of its own (a record factory, a class of loggers), each is made so. As installed nobody looks at records but one handler of
ours, which needs only what is said: then it is given that.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Collection, Mapping
from operator import attrgetter
from time import time
from types import TracebackType
from typing import Any

OF_ALL = ("event", "job_class", "jid", "queue", "attempt")
"""The fields of all lines about jobs; their values are the first arguments of a line."""
Said = tuple[int, str, str, tuple[Any, ...], Collection[str]]
"""Level, name of the logger, text, its arguments, and the names of those after `OF_ALL`."""
ErrorInfo = tuple[type[BaseException], BaseException, TracebackType | None]


class PrintableRecord(logging.LogRecord):
    """A record in which nothing has to be made printable any more."""


class LineWriter(logging.Handler):
    """A handler that can do without records."""

    def write_line(self, said: Said) -> bool:
        """Write what is said as its record would be. False if it needs one: then nothing is done."""
        raise NotImplementedError


class RecordMaker:
    """Makes the records of `logger` that one function of ours logs: `where` is its file, line and name."""

    def __init__(self, logger: logging.Logger, where: tuple[str, int, str]) -> None:
        self._logger = logger
        self._where = where
        self._patterns: dict[int, dict[str, Any]] = {}
        self._look: Callable[[logging.Logger], Any] = attrgetter("filters")
        self._seen: object = None
        self._writer: LineWriter | None = None
        os.register_at_fork(after_in_child=self._patterns.clear)

    def only_writer(self, level: int) -> LineWriter | None:
        """Who alone would see a record of this level, and needs none; None as soon as anybody else has a say in records or is there to see them."""
        try:
            is_known = (
                self._look(self._logger) == self._seen
                and _makes_plain_records() is _PLAIN
                and _LOGGER.handle is _HANDLE
                and _LOGGER.makeRecord is _MAKE_RECORD
            )
        except AttributeError:  # it has fewer parents than it had
            is_known = False
        if not is_known:
            self._find_writer()
        only = self._writer
        return only if only is not None and not only.filters and level >= only.level else None

    def _find_writer(self) -> None:
        """Look at all that decides it. As long as nothing of that changes, nothing else is asked for the next line."""
        logger: logging.Logger | None = self._logger
        depth, seen = 0, ["filters", "__class__", "__class__.callHandlers"]
        found: list[logging.Handler] = []
        while logger is not None:
            seen += ["parent." * depth + each for each in ("handlers", "propagate", "parent")]
            # The command line has a handler that does nothing.
            found += [handler for handler in logger.handlers if type(handler) is not logging.NullHandler]
            logger, depth = logger.parent if logger.propagate else None, depth + 1
        self._look = attrgetter(*seen)
        state = tuple([*each] if isinstance(each, list) else each for each in self._look(self._logger))
        self._seen = None if _beside_ours(type(self._logger)) else state
        is_plain = not self._logger.filters and _is_logging_as_it_came(type(self._logger))
        only = found[0] if len(found) == 1 and is_plain else None
        self._writer = only if isinstance(only, LineWriter) else None

    def make(
        self, level: int, text: str, args: tuple[Any, ...], fields: Mapping[str, Any], error: ErrorInfo | None
    ) -> logging.LogRecord:
        """A record with these `fields` besides. Texts in `args` and `fields` are printable."""
        theirs = _beside_ours(type(self._logger))
        by_others = _LOGGER.makeRecord is not _MAKE_RECORD or any("makeRecord" in vars(each) for each in theirs)
        if by_others or logging.getLogRecordFactory() is not logging.LogRecord:
            return self._made(level, text, args, fields, error)
        pattern = self._patterns.get(level) or self._pattern(level)
        now_s, thread = time(), threading.current_thread()
        said = pattern.copy()
        said.update(fields)
        said["msg"], said["args"], said["exc_info"] = text, args, error
        said["created"], said["msecs"] = now_s, float(int(now_s % 1 * 1000))
        said["relativeCreated"] = pattern["relativeCreated"] + (now_s - pattern["created"]) * 1000
        said["thread"], said["threadName"] = thread.ident, thread.name
        record = object.__new__(PrintableRecord)
        record.__dict__ = said
        return record

    def _pattern(self, level: int) -> dict[str, Any]:
        pattern = self._patterns[level] = vars(self._made(level, "", (), {}, None))
        return pattern

    def _made(
        self, level: int, text: str, args: tuple[Any, ...], fields: Mapping[str, Any], error: ErrorInfo | None
    ) -> logging.LogRecord:
        path, line, function = self._where
        return self._logger.makeRecord(self._logger.name, level, path, line, text, args, error, function, fields)


def _is_logging_as_it_came(kind: type[logging.Logger]) -> bool:
    """Whether nobody has put anything of his own into the way from a logger to its handlers: those that watch programs do."""
    return (
        _makes_plain_records() is _PLAIN
        and kind.callHandlers is _CALL_HANDLERS
        and _LOGGER.handle is _HANDLE
        and _LOGGER.makeRecord is _MAKE_RECORD
        and not any("makeRecord" in vars(each) for each in _beside_ours(kind))
    )


def _beside_ours(kind: type[logging.Logger]) -> tuple[type, ...]:
    """What the program has put between our loggers and logging's."""
    found = _BESIDE.get(kind)
    if found is None:
        known = _LOGGER.__mro__
        found = tuple(each for each in kind.__mro__ if each not in known and each.__module__ != "trioworkers.loggers")
        _BESIDE[kind] = found
    return found


_BESIDE: dict[type, tuple[type, ...]] = {}


def _as_it_came(method: Any) -> Any:
    came_with = getattr(getattr(method, "__code__", None), "co_filename", None)
    return method if came_with == logging.getLevelName.__code__.co_filename else None


_LOGGER, _PLAIN, _makes_plain_records = logging.Logger, logging.LogRecord, logging.getLogRecordFactory
_MAKE_RECORD, _HANDLE = _as_it_came(logging.Logger.makeRecord), _as_it_came(logging.Logger.handle)
_CALL_HANDLERS = _as_it_came(logging.Logger.callHandlers)
