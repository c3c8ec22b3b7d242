"""How long a job is wanted: when it expires unbegun, when it must be over, for how long its end is remembered. Ours; Ruby carries it along."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any, TypeGuard

from trioworkers.errors import BadJob

EXPIRES_FIELD = "tw_expires"
"""When nobody wants the job any more that has not begun by then, in epoch seconds."""
DEADLINE_FIELD = "tw_deadline"
"""When the job must be over, in epoch seconds: its attempt is cancelled then, and there is no other."""
KEEP_FIELD = "tw_keep"
"""For how many seconds it is kept how the job ended, with what it returned."""

MAX_KEPT_S = 30 * 86_400
MAX_EXPIRES_S = 100 * 365.25 * 86_400
_LAST_S = 1e11
"""Far enough (the year 5138), and what a datetime can hold."""


# ── read: whatever strangers wrote ─────────────────────────────────────────────────────────────────────────────────────


def kept_s(value: object) -> int | None:
    """For how many seconds a result is kept, if `value` says so sensibly; 30 days at most."""
    return math.ceil(min(value, MAX_KEPT_S)) if _is_positive(value) else None


def moment_s(value: object) -> float | None:
    """`value` as epoch seconds, if it can be that."""
    return float(value) if _is_positive(value) and value < _LAST_S else None


def moment(value: object) -> datetime | None:
    """`value`, epoch seconds, as a datetime in UTC, if it can be that."""
    at_s = moment_s(value)
    return None if at_s is None else datetime.fromtimestamp(at_s, UTC)


def _is_positive(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


# ── written: what we were asked for ────────────────────────────────────────────────────────────────────────────────────


def checked_seconds(what: str, value: object, at_most: float) -> float:
    """`value` as a positive number of seconds up to `at_most`. Raises ValueError that says what `what` may be."""
    if not _is_positive(value) or not value <= at_most:
        raise ValueError(f"{what} is a number of seconds above 0 and up to {at_most:,.0f}, not {value!r:.80}")
    return float(value)


def fields_of(
    due_s: float,
    expires_in: float | None,
    expires_at_s: float | None,
    deadline: datetime | None,
    keep_result: float | None,
) -> dict[str, Any]:
    """The fields of a job that is due at `due_s`. Raises BadJob for what can't be."""
    fields: dict[str, Any] = {}
    try:
        if expires_in is not None:
            fields[EXPIRES_FIELD] = due_s + checked_seconds("expires_in", expires_in, MAX_EXPIRES_S)
        elif expires_at_s is not None:
            fields[EXPIRES_FIELD] = expires_at_s
        if keep_result is not None:
            fields[KEEP_FIELD] = math.ceil(checked_seconds("keep_result", keep_result, MAX_KEPT_S))
        if deadline is not None:
            fields[DEADLINE_FIELD] = _epoch_s(deadline)
    except ValueError as error:
        raise BadJob(str(error)) from None
    return fields


def refuse_past(deadline: datetime, now_s: float) -> None:
    """Raise BadJob for a deadline that is past by `now_s`, epoch seconds. What goes out with an outcome isn't asked: by then it may be."""
    if isinstance(deadline, datetime) and _epoch_s(deadline) <= now_s:
        raise BadJob(f"the deadline {deadline.isoformat()} is past: such a job would end before it begins")


def _epoch_s(deadline: object) -> float:
    if not isinstance(deadline, datetime):
        raise ValueError(f"deadline is a datetime, not {deadline!r:.80}")  # noqa: TRY004 - one kind of error for all of these
    try:
        return deadline.timestamp()
    except (OverflowError, OSError, ValueError):  # the first and the last day that there are, in a zone
        return _LAST_S if deadline.year > 1970 else 0.0
