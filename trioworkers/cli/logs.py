"""How the command line logs: lines for people, in colours on a terminal; logfmt or JSON for machines. Only it configures logging."""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

import msgspec

from trioworkers.tracebacks import format_error

Format = Literal["text", "logfmt", "json"]

_FIELDS = ("jid", "job_class", "queue", "attempt", "elapsed", "error", "next")
_NAMES = {"job_class": "class"}
# What comes from payloads must neither end a line nor speak to the terminal.
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))} | {
    0x2028: "\\u2028",
    0x2029: "\\u2029",
}
_CONTROL_BUT_NEWLINE = {code: text for code, text in _CONTROL.items() if code not in (0x0A, 0x09)}

_DIM, _RESET = "\x1b[2m", "\x1b[0m"
_LEVEL_COLOURS = {logging.DEBUG: "\x1b[2m", logging.WARNING: "\x1b[33m", logging.ERROR: "\x1b[31m"}
_EVENT_COLOURS = {"start": "\x1b[36m", "done": "\x1b[32m", "stop": "\x1b[35m"}
_KEYS = re.compile(r"(?<= )([a-z]+=)")


class TextFormatter(logging.Formatter):
    """`TIME pid=PID LEVEL message`; on a terminal the time of day, and colours unless they are unwanted."""

    def __init__(self, *, terminal: bool = False, colours: bool = False) -> None:
        super().__init__()
        self._terminal = terminal
        self._colours = colours
        self._second = (-1, "")

    def format(self, record: logging.LogRecord) -> str:
        """One line, and below it the traceback if there is one."""
        line = f"{self._time(record)} pid={record.process} {record.levelname} {_message(record)}"
        if self._terminal:
            line = self._for_terminal(record)
        trace = _traceback(record)
        return f"{line}\n{trace}" if trace else line

    def _time(self, record: logging.LogRecord) -> str:
        second = int(record.created)
        if self._second[0] != second:  # a busy worker writes many lines a second
            form = "%H:%M:%S" if self._terminal else "%Y-%m-%dT%H:%M:%S"
            moment = time.localtime(second) if self._terminal else time.gmtime(second)
            self._second = (second, time.strftime(form, moment))
        milliseconds = int((record.created - second) * 1000)
        return f"{self._second[1]}.{milliseconds:03d}" + ("" if self._terminal else "Z")

    def _for_terminal(self, record: logging.LogRecord) -> str:
        message, level = _message(record), record.levelname
        if not self._colours:
            return f"{self._time(record)} {level:7} {message}"
        colour = _LEVEL_COLOURS.get(record.levelno, "")
        event = getattr(record, "event", "")
        if event:
            word, _, rest = message.partition(" ")
            rest = _KEYS.sub(rf"{_DIM}\1{_RESET}", f" {rest}")
            message = f"{_EVENT_COLOURS.get(event, colour)}{word}{_RESET}{rest}"
        return f"{_DIM}{self._time(record)}{_RESET} {colour}{level:7}{_RESET if colour else ''} {message}"


class LogfmtFormatter(logging.Formatter):
    """`key=value` pairs, one record a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's entry, values in quotes where they need them."""
        return " ".join(f"{key}={_logfmt(value)}" for key, value in _entry(record).items())


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's entry as JSON."""
        return msgspec.json.encode(_entry(record), enc_hook=str).decode()


def configure_logging(log_format: Format, level: str, stream: TextIO = sys.stderr) -> None:
    """Log everything from `level` on to `stream`."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_formatter(log_format, stream))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for each request is no help at thousands a second
    # It logs each failed try with its traceback; of an outage, our two lines are enough.
    logging.getLogger("coredis").setLevel(logging.CRITICAL)


def wants_colours(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """As agreed on no-color.org: NO_COLOR forbids, FORCE_COLOR asks, else a terminal that is not dumb."""
    if environment.get("NO_COLOR"):
        return False
    return bool(environment.get("FORCE_COLOR")) or (stream.isatty() and environment.get("TERM") != "dumb")


def _formatter(log_format: Format, stream: TextIO) -> logging.Formatter:
    if log_format == "json":
        return JsonFormatter()
    if log_format == "logfmt":
        return LogfmtFormatter()
    colours = wants_colours(stream, os.environ)
    return TextFormatter(terminal=stream.isatty() or colours, colours=colours)


def _message(record: logging.LogRecord) -> str:
    text = record.getMessage()
    if hasattr(record, "event"):
        return text.translate(_CONTROL)
    if hasattr(record, "jid"):  # a handler's own line: say whose it is
        fields = (f"{_NAMES.get(name, name)}={getattr(record, name)}" for name in _FIELDS if hasattr(record, name))
        text = " ".join([text, *fields])
    return text.translate(_CONTROL_BUT_NEWLINE)


def _entry(record: logging.LogRecord) -> dict[str, Any]:
    """What machines get: of our lines about jobs the event and its fields, of all others the message."""
    event = getattr(record, "event", None)
    entry: dict[str, Any] = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "pid": record.process,
        "message": record.getMessage() if event is None else event,
    }
    entry.update({_NAMES.get(name, name): getattr(record, name) for name in _FIELDS if hasattr(record, name)})
    if trace := _traceback(record):
        entry["traceback"] = trace
    return entry


def _traceback(record: logging.LogRecord) -> str:
    error = record.exc_info[1] if record.exc_info else None
    return format_error(error).translate(_CONTROL_BUT_NEWLINE) if error is not None else ""


def _logfmt(value: object) -> str:
    text = str(value)
    if text and text.isprintable() and not any(sign in text for sign in ' "=\\'):
        return text
    return msgspec.json.encode(text).decode()
