"""How an attempt ended, as a value. Exactly one of these is written to Redis for each delivery (see `engine/settler.py`).

```
            succeeded ─────────────► Acknowledge   forget the payload
attempt ──┬ failed, tries left ────► RetryAt       to the retry set
          ├ failed for good ───────► Bury          to the dead set
          ├ … and asked not to be kept ► Discard   forget the payload
          └ cancelled by us ───────► Requeue       back to the queue's fetch end, costs no attempt
```
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import attrs

from trioworkers.errors import BadJob
from trioworkers.wire.dialect import Failure
from trioworkers.wire.job import Job


@attrs.frozen
class Send:
    """A job that goes out with an outcome, in the same atomic step: now, or `delay_s` seconds later, or at epoch `at_s`."""

    job: Job
    delay_s: float | None = None
    at_s: float | None = None


def moment(when: datetime | timedelta | float) -> tuple[float | None, float | None]:
    """`(delay_s, at_s)` for a moment given as a datetime, a timedelta or seconds from now. Raises BadJob.

    A datetime without a time zone is local time, as everywhere in Python.
    """
    if isinstance(when, datetime):
        return None, when.astimezone(UTC).timestamp()
    delay_s = when.total_seconds() if isinstance(when, timedelta) else when
    if isinstance(delay_s, bool) or not isinstance(delay_s, int | float) or not math.isfinite(delay_s):
        raise BadJob(f"when to run is a datetime, a timedelta or seconds from now, not {when!r}")
    return max(0.0, float(delay_s)), None


@attrs.frozen
class Acknowledge:
    """Succeeded. What the handler enqueued goes out with it, `size` bytes or so. `value`: what it returned in JSON, if somebody wants it."""

    sends: tuple[Send, ...] = ()
    size: int = attrs.field(default=0, eq=False, repr=False)
    value: bytes | None = attrs.field(default=None, repr=False)


ACKNOWLEDGE = Acknowledge()
"""How most jobs end: nothing goes out with it."""


@attrs.frozen
class RetryAt:
    """Failed; `payload`, with the retry's bookkeeping, is due in the retry set after `delay_s` seconds."""

    payload: bytes
    delay_s: float


@attrs.frozen
class Bury:
    """Failed for good; `payload` goes to the dead set. `counted` is false for what never was a job.

    `failure`: what a record of it says, where such are kept.
    """

    payload: bytes
    counted: bool = True
    failure: Failure | None = attrs.field(default=None, eq=False, repr=False)


@attrs.frozen
class Discard:
    """Failed for good and not kept."""


@attrs.frozen
class Expire:
    """Over before it began: nobody wants it any more. Forgotten, and counted apart from failures."""


@attrs.frozen
class Requeue:
    """Stopped by us, which is not failing: back to the fetch end of its queue, the same bytes apart from fan-out progress.

    With `delay_s` it waits in the schedule set instead (a paused host, say); no attempt is counted in either case.
    """

    payload: bytes | None = None
    delay_s: float | None = None


@attrs.frozen
class Checkpoint:
    """Not an end: the attempt goes on. `payload`, with the fan-out progress so far, takes its place in the in-progress list."""

    payload: bytes


Outcome = Acknowledge | RetryAt | Bury | Discard | Expire | Requeue
