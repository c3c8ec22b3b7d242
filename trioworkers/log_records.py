"""Makes records for lines that are logged thousands of times a second: what `logging` would make, in a fifth of the time; and none where nobody would see it.

Most of a record is the same in all of a level and a process. That is made once, by `logging`, and copied. Where the program makes
records in a way of its own (a record factory, a class of loggers), each is made so. As installed nobody looks at records but one handler of
ours, which needs only what is said: then it is given that.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Collection, Mapping
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
        os.register_at_fork(after_in_child=self._patterns.clear)

    def only_writer(self, level: int) -> LineWriter | None:
        """Who alone would see a record of this level, and needs none; None as soon as anybody else has a say in records or is there to see them."""
        logger: logging.Logger | None = self._logger
        if self._logger.filters or not _is_logging_as_it_came(type(self._logger)):
            return None
        only: logging.Handler | None = None
        while logger is not None:
            for handler in logger.handlers:
                if type(handler) is logging.NullHandler:  # as the command line has one
                    continue
                if only is not None:
                    return None
                only = handler
            logger = logger.parent if logger.propagate else None
        return only if isinstance(only, LineWriter) and not only.filters and level >= only.level else None

    def make(
        self, level: int, text: str, args: tuple[Any, ...], fields: Mapping[str, Any], error: ErrorInfo | None
    ) -> logging.LogRecord:
        """A record with these `fields` besides. Texts in `args` and `fields` are printable."""
        by_others = type(self._logger).makeRecord is not _MAKE_RECORD
        if by_others or logging.getLogRecordFactory() is not logging.LogRecord:
            return self._made(level, text, args, fields, error)
        pattern = self._patterns.get(level) or self._pattern(level)
        now_s, thread = time.time(), threading.current_thread()
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
        logging.getLogRecordFactory() is logging.LogRecord
        and kind.callHandlers is _CALL_HANDLERS
        and logging.Logger.handle is _HANDLE
        and kind.makeRecord is _MAKE_RECORD
    )


def _as_it_came(method: Any) -> Any:
    came_with = getattr(getattr(method, "__code__", None), "co_filename", None)
    return method if came_with == logging.getLevelName.__code__.co_filename else None


_MAKE_RECORD, _HANDLE = _as_it_came(logging.Logger.makeRecord), _as_it_came(logging.Logger.handle)
_CALL_HANDLERS = _as_it_came(logging.Logger.callHandlers)
