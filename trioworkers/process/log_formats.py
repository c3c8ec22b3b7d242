"""What a log's lines look like: text for people, logfmt or JSON for machines."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from trioworkers.log_records import OF_ALL, Said
from trioworkers.printable import as_text, json_line, on_lines, on_one_line
from trioworkers.process.log_turn import take_turns
from trioworkers.tracebacks import format_error

_FIELDS = {
    name: name for name in ("jid", "job_class", "queue", "attempt", "elapsed", "error", "next", "trace_id", "span_id")
}
_FIELDS["job_class"] = "class"
_DIM, _RESET = "\x1b[2m", "\x1b[0m"
_LEVEL_COLOURS = {logging.DEBUG: "\x1b[2m", logging.WARNING: "\x1b[33m", logging.ERROR: "\x1b[31m"}
_EVENT_COLOURS = {"start": "\x1b[36m", "done": "\x1b[32m", "stop": "\x1b[35m"}
_OF_TRACEBACK = re.compile(
    r" |$|Traceback \(|During handling of|The above exception|\(from the |… and |[\w.<>]{1,200}(: |$)"
)
_QUOTED = re.compile(r'[ "=\\]')
_KEYS = re.compile(r"(?<= )([a-z]+=)")
_process = ""
"""Which of several processes on one log we are; "" for the only one."""


class TextFormatter(logging.Formatter):
    """`TIME pid=PID LEVEL message`; on a terminal the time of day, and colours unless they are unwanted."""

    def __init__(self, *, terminal: bool = False, colours: bool = False) -> None:
        super().__init__()
        self._terminal = terminal
        self._colours = colours
        self._second = (-1, "")
        self._moment = (-1, "")
        self._beginning = ((-1, 0, 0), "")

    def format(self, record: logging.LogRecord) -> str:
        """One line, and below it the traceback if there is one."""
        if self._terminal:
            line = self._for_terminal(record)
        else:
            line = f"{self._time(record.created)} pid={record.process} {which()}{record.levelname} {_message(record)}"
        return f"{line}\n{trace}" if record.exc_info and (trace := _traceback(record)) else line

    def line(self, said: Said, created_s: float, pid: int) -> str | None:
        """See `LineFormatter`."""
        if self._terminal:  # where nobody reads thousands of lines a second
            return None
        level, _, text, args, _ = said
        what, beginning = self._beginning
        if what != (now := (int(created_s * 1000), level, pid)):  # a busy worker writes many lines a second
            beginning = f"{self._time(created_s)} pid={pid} {which()}{logging.getLevelName(level)} "
            self._beginning = (now, beginning)
        return beginning + text % args

    def _time(self, created_s: float) -> str:
        moment, text = self._moment
        now = int(created_s * 1000)
        if moment != now:  # a busy worker writes many lines a second
            text = self._written(now)
            self._moment = (now, text)
        return text

    def _written(self, now_ms: int) -> str:
        second, milliseconds = divmod(now_ms, 1000)
        if self._second[0] != second:
            form = "%H:%M:%S" if self._terminal else "%Y-%m-%dT%H:%M:%S"
            moment = time.localtime(second) if self._terminal else time.gmtime(second)
            self._second = (second, time.strftime(form, moment))
        return f"{self._second[1]}.{milliseconds:03d}" + ("" if self._terminal else "Z")

    def _for_terminal(self, record: logging.LogRecord) -> str:
        message, level = _message(record), record.levelname
        if not self._colours:
            return f"{self._time(record.created)} {which()}{level:7} {message}"
        colour = _LEVEL_COLOURS.get(record.levelno, "")
        event = getattr(record, "event", "")
        if event:
            word, _, rest = message.partition(" ")
            rest = _KEYS.sub(rf"{_DIM}\1{_RESET}", f" {rest}")
            message = f"{_EVENT_COLOURS.get(event, colour)}{word}{_RESET}{rest}"
        return (
            f"{_DIM}{self._time(record.created)} {which()}{_RESET}{colour}{level:7}{_RESET if colour else ''} {message}"
        )


class LogfmtFormatter(logging.Formatter):
    """`key=value` pairs, one record a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's entry, values in quotes where they need them."""
        return _pairs(_entry(record))

    def line(self, said: Said, created_s: float, pid: int) -> str:
        """See `LineFormatter`."""
        return _pairs(_entry_of_job(said, created_s, pid))


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's entry as JSON."""
        return json_line(_entry(record))

    def line(self, said: Said, created_s: float, pid: int) -> str:
        """See `LineFormatter`."""
        return json_line(_entry_of_job(said, created_s, pid))


def share_log(process: str, turn: int | None = None) -> None:
    """From now on this process, which several call by that name, writes on one log with others: its lines say so, and don't mix with theirs. `turn`: see `log_turn`."""
    global _process  # noqa: PLW0603 - a process has one name
    _process = process
    take_turns(turn)


def which() -> str:
    """What lines say of whose they are; "" for the only process on its log."""
    return f"process={_process} " if _process else ""


def _message(record: logging.LogRecord) -> str:
    text = record.getMessage()
    if hasattr(record, "event"):
        return on_one_line(text)
    if hasattr(record, "jid"):  # a handler's own line: say whose it is
        fields = (
            f"{shown}={as_text(getattr(record, name))}" for name, shown in _FIELDS.items() if hasattr(record, name)
        )
        text = " ".join([text, *fields])
    return on_lines(text)


def _entry(record: logging.LogRecord) -> dict[str, Any]:
    """What machines get: of our lines about jobs the event and its fields, of all others the message."""
    said = vars(record)
    event = said.get("event")
    message = record.getMessage() if event is None else event
    entry = _beginning(record.created, record.levelname, record.name, record.process, message)
    entry.update([(shown, said[name]) for name, shown in _FIELDS.items() if name in said])
    if trace := _traceback(record):
        entry["traceback"] = trace
    return entry


def _entry_of_job(said: Said, created_s: float, pid: int) -> dict[str, Any]:
    """The same for a line of ours without a record."""
    level, name, _, args, more = said
    fields = dict(zip((*OF_ALL, *more), args, strict=True))
    entry = _beginning(created_s, logging.getLevelName(level), name, pid, fields["event"])
    entry.update([(shown, fields[field]) for field, shown in _FIELDS.items() if field in fields])
    return entry


def _beginning(created_s: float, level: str, logger: str, pid: int | None, message: str) -> dict[str, Any]:
    process = {"process": _process} if _process else {}
    return {
        "time": _iso_time(created_s),
        "level": level.lower(),
        "logger": logger,
        "pid": pid,
        **process,
        "message": message,
    }


def _pairs(entry: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={_logfmt(value)}" for key, value in entry.items())


def _iso_time(created: float) -> str:
    second = int(created)
    return f"{_second(second)}.{int((created - second) * 1000):03d}+00:00"


@lru_cache(maxsize=1)
def _second(second: int) -> str:
    """A busy worker writes many lines a second."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


def _traceback(record: logging.LogRecord) -> str:
    error = record.exc_info[1] if record.exc_info else None
    if error is None:
        return ""
    lines = format_error(error).split("\n")
    # What an error says may have lines, too. They stand apart from those of the traceback, and from the next record.
    return "\n".join(
        on_one_line(line.replace("\t", "    ")) if _OF_TRACEBACK.match(line) else f"  {on_one_line(line)}"
        for line in lines
    )


def _logfmt(value: object) -> str:
    text = as_text(value) if not isinstance(value, str) else value
    if text and text.isprintable() and not _QUOTED.search(text):
        return text
    return json_line(text)
