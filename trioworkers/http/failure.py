"""What a call's failure means: whether another try may cure it, and when."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from trioworkers.errors import CallFailed, HostPaused
from trioworkers.failures import summary
from trioworkers.http.reasons import with_reason

if TYPE_CHECKING:
    import httpx

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "QUERY"})
"""Those that ask for something and change nothing (RFC 9110 §9.2.1): without the answer's body they were in vain, and may be sent again."""

TEMPORARY_STATUS = frozenset({408, 425, 429})
"""Besides 5xx: statuses that another try may cure."""

LONGEST_RETRY_AFTER_S = 24 * 3600.0
MAX_REASON = 2000
LONGEST_HEADER = 100
"""Characters of a header, a reason phrase or so that we look at: what is longer is no date, and nothing to show people."""


class _BadStatus(Exception):
    def __init__(self, response: httpx.Response) -> None:
        super().__init__(shown_status(response))
        self.status = response.status_code
        self.retry_after_s = retry_after_s(response.headers, datetime.now(UTC))


def check_status(response: httpx.Response, expect: Collection[int] | None) -> None:
    """Raise what `failure_of` understands, unless the call succeeded."""
    if not is_good(response, expect):
        raise _BadStatus(response)


def is_good(response: httpx.Response, expect: Collection[int] | None) -> bool:
    """Whether the service has done what was asked for."""
    return response.is_success or (expect is not None and response.status_code in expect)


def shown_status(response: httpx.Response) -> str:
    """`404 Not Found`, for people."""
    return f"{response.status_code} {response.reason_phrase[:LONGEST_HEADER]}".strip()


def retry_after_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds that a Retry-After header asks for, given as seconds or as an HTTP date (RFC 9110 §10.2.3); at most a day."""
    text = headers.get("retry-after", "").strip()
    if not 0 < len(text) <= LONGEST_HEADER:
        return None
    if text.isascii() and text.isdigit():
        seconds = float(text)
    else:
        from email.utils import parsedate_to_datetime  # noqa: PLC0415 - brings in all of email; dates are rare here

        try:
            date = parsedate_to_datetime(text)
            seconds = ((date if date.tzinfo else date.replace(tzinfo=UTC)) - now).total_seconds()
        except (ValueError, IndexError, TypeError, OverflowError):  # no date, or none that a calendar has
            return None
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_S)


def failure_of(name: str, error: Exception, elapsed_s: float) -> CallFailed:
    """What is said of a call that ended with `error`, which may be of a handler's own making: looking at it must not be the next error."""
    try:
        return _failure_of(name, error, elapsed_s)
    except Exception:  # noqa: BLE001 - see above
        return CallFailed(name, ": ".join(summary(error)), permanent=False, elapsed_s=elapsed_s)


def _failure_of(name: str, error: Exception, elapsed_s: float) -> CallFailed:
    if isinstance(error, CallFailed):
        return CallFailed(
            name,
            f"{error.reason:.{MAX_REASON}}",
            permanent=error.permanent is True,
            elapsed_s=elapsed_s,
            retry_after_s=error.retry_after_s,
            paused=error.paused is True,
        )
    if isinstance(error, _BadStatus):
        permanent = error.status not in TEMPORARY_STATUS and error.status < 500
        return CallFailed(name, str(error), permanent=permanent, elapsed_s=elapsed_s, retry_after_s=error.retry_after_s)
    text = with_reason(error)[:MAX_REASON] or "no message"
    paused_s = error.retry_after if isinstance(error, HostPaused) else None
    return CallFailed(
        name,
        f"{type(error).__name__}: {text}",
        permanent=_is_permanent(error),
        elapsed_s=elapsed_s,
        retry_after_s=paused_s,
        paused=paused_s is not None,
    )


def _is_permanent(error: Exception) -> bool:
    """Whether the request itself is wrong: sending it again would fail again."""
    import httpx  # noqa: PLC0415 - dear to import; a fan-out that failed has it already

    wrong = httpx.InvalidURL | httpx.UnsupportedProtocol | httpx.LocalProtocolError | httpx.TooManyRedirects
    return isinstance(error, wrong) or getattr(error, "permanent", False) is True
