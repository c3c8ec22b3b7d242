"""A job that goes out, and when: what clients send, and what an outcome takes along."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import attrs

from trioworkers.errors import BadJob
from trioworkers.seconds import is_moment, said_of_moment
from trioworkers.wire.job import Job

END_S = 253_402_300_800
"""The end of the year 9999: nobody can read a later moment as a date."""
MAX_DELAY_S = 100 * 365.25 * 24 * 3600
"""What is put off for longer waits a hundred years: other programs read these times as dates, and a date has an end."""


@attrs.frozen
class Send:
    """A job that goes out with an outcome, in the same atomic step: now, or `delay_s` seconds later, or at epoch `at_s`."""

    job: Job
    delay_s: float | None = None
    at_s: float | None = None

    def due_s(self, now_s: float) -> float:
        """When it is due, in epoch seconds, if it is sent at `now_s`."""
        return now_s + (self.delay_s or 0.0) if self.at_s is None else self.at_s


def moment(when: datetime | timedelta | float) -> tuple[float | None, float | None]:
    """`(delay_s, at_s)` for a moment given as a datetime, a timedelta or seconds from now. Raises BadJob, also for a number that is a moment.

    A datetime without a time zone is local time, as everywhere in Python.
    """
    if isinstance(when, datetime):
        try:
            at_s = when.astimezone(UTC).timestamp()
        except (OverflowError, ValueError, OSError):
            at_s = math.inf
        if at_s >= END_S:  # where the last microseconds are rounded up to, too
            raise BadJob(f"{when} is no moment at which a job could run")
        return None, at_s
    delay_s = when.total_seconds() if isinstance(when, timedelta) else when
    if isinstance(delay_s, bool) or not isinstance(delay_s, int | float) or not -math.inf < delay_s < math.inf:
        raise BadJob(f"when to run is a datetime, a timedelta or seconds from now, not {when!r:.80}")
    if is_moment(delay_s) and not isinstance(when, timedelta):
        raise BadJob(f"when to run is seconds from now, not {said_of_moment(delay_s)}")
    return min(float(max(0, delay_s)), MAX_DELAY_S), None  # max first: an integer may be too large for a float
