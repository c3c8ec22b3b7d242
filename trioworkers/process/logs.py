"""How a process of ours logs: lines for people, in colours on a terminal; logfmt or JSON for machines.

Only the command line configures logging, and `app.run()` where nobody else has.
"""

from __future__ import annotations

import atexit
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any, Literal, TextIO

from trioworkers.log_records import OF_ALL, Said
from trioworkers.loggers import NAMES
from trioworkers.printable import as_text, json_line, on_lines, on_one_line
from trioworkers.process.log_turn import take_turns
from trioworkers.process.log_writer import LogWriter
from trioworkers.process.python_says import log_what_python_says
from trioworkers.tracebacks import format_error

Format = Literal["text", "logfmt", "json"]

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


_OURS = [logging.getLogger(name) for name in NAMES]
"""Kept: to ask logging for one takes its lock."""
_ensuring: _Again | None = None
_chosen: tuple[Format, str] = ("text", "info")
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
            line = f"{self._time(record.created)} pid={record.process} {_which()}{record.levelname} {_message(record)}"
        return f"{line}\n{trace}" if record.exc_info and (trace := _traceback(record)) else line

    def line(self, said: Said, created_s: float, pid: int) -> str | None:
        """See `LineFormatter`."""
        if self._terminal:  # where nobody reads thousands of lines a second
            return None
        level, _, text, args, _ = said
        what, beginning = self._beginning
        if what != (now := (int(created_s * 1000), level, pid)):  # a busy worker writes many lines a second
            beginning = f"{self._time(created_s)} pid={pid} {_which()}{logging.getLevelName(level)} "
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
            return f"{self._time(record.created)} {_which()}{level:7} {message}"
        colour = _LEVEL_COLOURS.get(record.levelno, "")
        event = getattr(record, "event", "")
        if event:
            word, _, rest = message.partition(" ")
            rest = _KEYS.sub(rf"{_DIM}\1{_RESET}", f" {rest}")
            message = f"{_EVENT_COLOURS.get(event, colour)}{word}{_RESET}{rest}"
        return f"{_DIM}{self._time(record.created)} {_which()}{_RESET}{colour}{level:7}{_RESET if colour else ''} {message}"


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


def _which() -> str:
    return f"process={_process} " if _process else ""


def configure_logging(log_format: Format, level: str, stream: TextIO | None = None) -> None:
    """Log everything from `level` on to `stream`; not given: standard error, if there is one."""
    global _chosen  # noqa: PLW0603 - a process has one log
    _chosen = (log_format, level)
    stream = sys.stderr if stream is None else stream
    handler: logging.Handler = logging.NullHandler() if stream is None else LogWriter(stream, shared=bool(_process))
    handler.setFormatter(_formatter(log_format, stream))
    atexit.register(handler.flush)  # logging does so, too, unless `dictConfig` has made it forget its handlers
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("trioworkers").setLevel(level.upper())  # a program may set the root's level for itself
    if stream is not None and stream is sys.stderr:
        log_what_python_says()
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for each request is no help at thousands a second
    # It logs each failed try with its traceback; of an outage, our two lines are enough.
    logging.getLogger("coredis").setLevel(logging.CRITICAL)


def ensure_logging() -> None:
    """Configure logging if nobody has, or anew if somebody has undone it: what a worker has to say must not get lost by accident."""
    if any(map(_is_heard, _OURS)):
        return
    configure_logging(*_chosen)
    if not any(map(_is_heard, _OURS)):
        logging.getLogger().warning("no line of trioworkers is heard: its logger doesn't propagate and has no handler")


def ensure_logging_soon() -> None:
    """The same, for who must not wait. From a thread of its own.

    Logging has one lock for all its loggers, which a program may hold for long: a `dictConfig` whose handler doesn't reach its server, say.
    """
    global _ensuring  # noqa: PLW0603 - as above
    if any(map(_is_heard, _OURS)):
        _ensuring = None
    elif _ensuring is None or _ensuring.may_be_repeated():
        _ensuring = _Again()


class _Again:
    """One try to be heard again."""

    def __init__(self) -> None:
        self._was_in_vain = False
        self._thread = threading.Thread(target=self._run, name="trioworkers-log-again", daemon=True)
        self._thread.start()

    def may_be_repeated(self) -> bool:
        """Whether it is over, and did help: who has told our loggers to say nothing to anybody is told so once, not each second."""
        return not self._thread.is_alive() and not self._was_in_vain

    def _run(self) -> None:
        ensure_logging()
        self._was_in_vain = not any(map(_is_heard, _OURS))


def flush_logs() -> None:
    """Have written what is logged, before something else is said on the same stream. Waits no longer than a moment."""
    for handler in logging.getLogger().handlers:
        with suppress(Exception):  # somebody else's, whose stream is closed
            handler.flush()


def _is_heard(ours: logging.Logger) -> bool:
    logger: logging.Logger | None = ours
    while logger is not None:
        if any(not isinstance(handler, logging.NullHandler) for handler in logger.handlers):
            return True
        logger = logger.parent if logger.propagate else None
    return False


def wants_colours(stream: TextIO | None, environment: Mapping[str, str]) -> bool:
    """As agreed on no-color.org: NO_COLOR forbids, FORCE_COLOR asks, else a terminal that is not dumb."""
    if environment.get("NO_COLOR"):
        return False
    return bool(environment.get("FORCE_COLOR")) or (_is_terminal(stream) and environment.get("TERM") != "dumb")


def _formatter(log_format: Format, stream: TextIO | None) -> logging.Formatter:
    if log_format == "json":
        return JsonFormatter()
    if log_format == "logfmt":
        return LogfmtFormatter()
    colours = wants_colours(stream, os.environ)
    return TextFormatter(terminal=_is_terminal(stream) or colours, colours=colours)


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False


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
