"""Our loggers. Nothing that they say can raise, be forged by strangers, or be lost by accident.

Their handlers, formats and levels are the program's. Ours is what is done to each record of ours before any handler sees it.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from trioworkers.log_records import PrintableRecord
from trioworkers.printable import Lines, as_text, on_one_line

NAMES = ("trioworkers", "trioworkers.job", "trioworkers.dev", "trioworkers.web", "trioworkers.web.server")
FIELDS = ("jid", "job_class", "queue", "error", "next")
"""What records carry beside their text, and others may have written."""

_PRINTABLE = (int, float, Lines)
_HERE = __file__.removesuffix("loggers.py")


class _Ours:
    """Mixed into the loggers of `NAMES`, whatever class they have."""

    apart = False
    """Whether a filter or a handler of the program has raised: each is then called by itself."""
    is_interruptible = True
    """Whether Ctrl-C is raised in whatever runs, as Python and Trio do it, so in those as well. Not in a process that hears its signals otherwise."""

    def handle(self, record: logging.LogRecord) -> None:
        """Make it printable, and have it handled. A handler that raises (its stream is closed) doesn't end what was logged about."""
        if not isinstance(record, PrintableRecord):
            _clean(record)
        if _Ours.apart:
            _handle_apart(self, record)  # type: ignore[arg-type]
            return
        try:
            super().handle(record)  # type: ignore[misc]
        except BaseException as error:  # see above
            if _is_ctrl_c(error):
                raise
            _Ours.apart = (
                True  # those behind it would get nothing, from now on: better this line twice than none of them
            )
            _handle_apart(self, record)  # type: ignore[arg-type]
            _handle_apart(self, _told(error))  # type: ignore[arg-type]

    def makeRecord(self, *args: Any, **kwargs: Any) -> logging.LogRecord:  # noqa: N802 - logging's name
        """As any logger; if a factory of the program's raises, without it."""
        try:
            return super().makeRecord(*args, **kwargs)  # type: ignore[misc,no-any-return]
        except BaseException as error:  # as above
            if _is_ctrl_c(error):
                raise
            return _plain_record(*args, **kwargs)

    def __setattr__(self, name: str, value: Any) -> None:
        # `dictConfig` and `fileConfig` disable, unless told otherwise, every logger that they don't name: that is meant for nobody in particular.
        if name == "disabled" and sys._getframe(1).f_globals.get("__name__") == "logging.config":  # noqa: SLF001 - who calls
            value = False
        super().__setattr__(name, value)


def _plain_record(
    name: str,
    level: int,
    fn: str,
    lno: int,
    msg: object,
    args: Any,
    exc_info: Any,
    func: str | None = None,
    extra: Mapping[str, object] | None = None,
    sinfo: str | None = None,
) -> logging.LogRecord:
    record = logging.LogRecord(name, level, fn, lno, msg, args, exc_info, func, sinfo)
    record.__dict__.update(extra or {})
    return record


def _handle_apart(logger: logging.Logger, record: logging.LogRecord) -> None:
    """What `logging` does, but that nobody who raises keeps the record from those behind."""
    try:
        found: object = not logger.disabled and logger.filter(record)
    except BaseException as error:  # a filter that fails has not said that the record is unwanted
        if _is_ctrl_c(error):
            raise
        found = True
    kept = found if isinstance(found, logging.LogRecord) else record
    at: logging.Logger | None = logger if found else None
    while at is not None:
        for handler in list(at.handlers):
            if kept.levelno >= handler.level:
                try:
                    handler.handle(kept)
                except BaseException as error:  # as above; it has been told once
                    if _is_ctrl_c(error):
                        raise
        at = at.parent if at.propagate else None


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Within the block no KeyboardInterrupt is Ctrl-C: who raises one in what we log fails like any other."""
    _Ours.is_interruptible = False
    try:
        yield
    finally:
        _Ours.is_interruptible = True


def _is_ctrl_c(error: BaseException) -> bool:
    return _Ours.is_interruptible and isinstance(error, KeyboardInterrupt)


def _told(error: BaseException) -> logging.LogRecord:
    from trioworkers.failures import summary  # noqa: PLC0415 - few programs need them for their logging
    from trioworkers.tracebacks import last_place  # noqa: PLC0415 - as above

    text = (
        "a filter or a handler of this program's logging raised %s: %s (%s): what it is for may be missing from the log"
    )
    record = logging.LogRecord(
        "trioworkers", logging.WARNING, __file__, 0, text, (*summary(error), last_place(error)), None
    )
    _clean(record)
    return record


def _clean(record: logging.LogRecord) -> None:
    # The text is ours; what is put into it may be anybody's. A handler's own lines are its own, but for whose they are.
    if record.args and (record.name != "trioworkers.job" or record.pathname.startswith(_HERE)):
        args = record.args if isinstance(record.args, tuple) else (record.args,)
        record.args = tuple([each if isinstance(each, _PRINTABLE) else as_text(each) for each in args])
    for field in FIELDS:
        value = record.__dict__.get(field)
        if isinstance(value, str):
            record.__dict__[field] = on_one_line(value)


def _take_over() -> None:
    for name in NAMES:
        logger = logging.getLogger(name)
        if not isinstance(logger, _Ours):
            logger.__class__ = type("Logger", (_Ours, type(logger)), {})
            logger.disabled = False


_take_over()
