"""What Python says of itself on standard error, put into the log: warnings, and exceptions out of threads and destructors.

It would be written there and then, by the event loop, too, which would wait for whoever reads; between lines that machines read; and with
texts of strangers in it, of which some look like lines of ours. Whoever has hooks of his own there keeps them.
"""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from contextlib import suppress
from typing import TextIO

from trioworkers.printable import as_text, shown

logger = logging.getLogger("trioworkers")


def log_what_python_says() -> None:
    """From now on. Where the log is ours, and there is nobody else's hook."""
    if warnings.showwarning is _SHOW_WARNING:
        warnings.showwarning = _warned
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _ignored
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _thread_failed


_SHOW_WARNING = warnings.showwarning


def _warned(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    if file is not None:
        _SHOW_WARNING(message, category, filename, lineno, file, line)
        return
    logger.warning("%s:%d: %s: %s", filename, lineno, category.__name__, as_text(message))


def _ignored(what: sys.UnraisableHookArgs) -> None:
    # Called wherever garbage is looked for: what goes wrong here would be told to us again.
    with suppress(Exception):
        text = what.err_msg or "Exception ignored in"
        logger.error("%s: %s", text, shown(what.object), exc_info=what.exc_value)


def _thread_failed(what: threading.ExceptHookArgs) -> None:
    if what.exc_type is SystemExit:  # as Python has it
        return
    name = "a thread" if what.thread is None else what.thread.name
    with suppress(Exception):
        logger.error("an exception ended %s", name, exc_info=what.exc_value)
