"""How a process of ours logs: where to, in which form, from which level on; and that it is heard.

Only the command line configures logging, and `app.run()` where nobody else has.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Literal, TextIO

from trioworkers.loggers import NAMES
from trioworkers.process.log_formats import JsonFormatter, LogfmtFormatter, TextFormatter, which
from trioworkers.process.log_writer import LogWriter
from trioworkers.process.python_says import log_what_python_says

Format = Literal["text", "logfmt", "json"]

_OURS = [logging.getLogger(name) for name in NAMES]
"""Kept: to ask logging for one takes its lock."""
_ensuring: _Again | None = None
_chosen: tuple[Format, str] = ("text", "info")


def configure_logging(log_format: Format, level: str, stream: TextIO | None = None) -> None:
    """Log everything from `level` on to `stream`; not given: standard error, if there is one."""
    global _chosen  # noqa: PLW0603 - a process has one log
    _chosen = (log_format, level)
    stream = sys.stderr if stream is None else stream
    handler: logging.Handler = logging.NullHandler() if stream is None else LogWriter(stream, shared=bool(which()))
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
        self._thread: threading.Thread | None = None
        with suppress(RuntimeError):  # jobs have all the threads that there may be: whoever asks next tries again
            self._thread = threading.Thread(target=self._run, name="trioworkers-log-again", daemon=True)
            self._thread.start()

    def may_be_repeated(self) -> bool:
        """Whether it is over, and did help: who has told our loggers to say nothing to anybody is told so once, not each second."""
        return not self._was_in_vain and (self._thread is None or not self._thread.is_alive())

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
