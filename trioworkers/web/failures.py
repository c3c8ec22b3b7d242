"""What went wrong with a page, as a status and a sentence for people."""

from __future__ import annotations

import logging

import trio

from trioworkers.errors import (
    Ambiguous,
    BrokerError,
    ConfigurationError,
    NotFound,
    Refused,
    TrioworkersError,
)
from trioworkers.web.http import HttpError

logger = logging.getLogger("trioworkers.web")

PAGE_S = 8.0
"""No page takes longer."""

_STATUSES: tuple[tuple[type[Exception], int], ...] = (
    (NotFound, 404),
    (Ambiguous, 400),
    (ConfigurationError, 400),
    (Refused, 502),
    (BrokerError, 503),
    (TrioworkersError, 409),
)


def said(error: Exception) -> tuple[int, str]:
    """A status, and a sentence for people."""
    if isinstance(error, HttpError):
        return error.status, str(error)
    if isinstance(error, trio.TooSlowError):
        text = f"it took longer than {PAGE_S:g} s, and was given up: Redis is slow, or there is much to look through"
        return 504, text
    for kind, status in _STATUSES:
        if isinstance(error, kind):
            return status, str(error)
    logger.error("a page of the dashboard failed", exc_info=error)
    return 500, "our own mistake; the log of the program that serves this page says more"
