"""Keeps the last log lines of a job (`keep_log`): whatever is logged, by any logger, in its task, in those of its nurseries, and in threads that it waits for."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from trioworkers.failures import summary
from trioworkers.printable import on_one_line
from trioworkers.wire.log_lines import LogLines

if TYPE_CHECKING:
    from trioworkers.jobs.context import Context

_lines: ContextVar[LogLines | None] = ContextVar("trioworkers_kept_log", default=None)


class _Keeper(logging.Handler):
    """At the root: a record comes here if its logger, and what is configured, let it through."""

    def handle(self, record: logging.LogRecord) -> bool:
        """Not under the handler's lock: what one job logs holds up no other."""
        lines = _lines.get()
        if lines is not None:
            lines.add(record.created, record.levelname, _text(record))
        return True


_keeper = _Keeper()


def _text(record: logging.LogRecord) -> str:
    try:
        text = record.getMessage()
    except Exception as error:  # noqa: BLE001 - the user's own arguments: logging, too, only complains
        text = f"(a record that can't be formatted: {type(error).__name__}) {record.msg!r:.200}"
    if record.exc_info and record.exc_info[1] is not None:
        text += f": {': '.join(summary(record.exc_info[1]))}"
    return on_one_line(text[:2000])


async def keep_log(count: int, ctx: Context, call_next: Callable[[], Awaitable[Any]]) -> Any:
    """A middleware, around one attempt: the last `count` lines stay with it."""
    attempt = ctx._opened().attempt  # noqa: SLF001 - one of our own
    if attempt is None:
        return await call_next()
    root = logging.getLogger()
    if _keeper not in root.handlers:  # not before: a program configures its logging when it likes, and may do so again
        root.addHandler(_keeper)
    lines = LogLines(count)
    attempt.keep_log(lines)
    token = _lines.set(lines)
    try:
        return await call_next()
    finally:
        _lines.reset(token)
