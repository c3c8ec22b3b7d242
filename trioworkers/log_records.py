"""Makes records for lines that are logged thousands of times a second: what `logging` would make, in a fifth of the time.

Most of a record is the same in all of a level and a process. That is made once, by `logging`, and copied. Where the program makes
records in a way of its own (a record factory, a class of loggers), each is made so.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

ErrorInfo = tuple[type[BaseException], BaseException, TracebackType | None]


class PrintableRecord(logging.LogRecord):
    """A record in which nothing has to be made printable any more."""


class RecordMaker:
    """Makes the records of `logger` that one function of ours logs: `where` is its file, line and name."""

    def __init__(self, logger: logging.Logger, where: tuple[str, int, str]) -> None:
        self._logger = logger
        self._where = where
        self._patterns: dict[int, dict[str, Any]] = {}
        os.register_at_fork(after_in_child=self._patterns.clear)

    def make(
        self, level: int, text: str, args: tuple[Any, ...], fields: Mapping[str, Any], error: ErrorInfo | None
    ) -> logging.LogRecord:
        """A record with these `fields` besides. Texts in `args` and `fields` are printable."""
        by_others = type(self._logger).makeRecord is not logging.Logger.makeRecord
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
