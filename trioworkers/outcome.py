"""How an attempt ended, as a value: one of these, written to Redis by `engine/settler.py`; none if others took it over, or its worker ended first.

```
            succeeded ─────────────► Acknowledge   forget the payload
attempt ──┬ failed, tries left ────► Retry         to the retry set, once its delay is over to its queue
          ├ failed for good ───────► Bury          to the dead set
          ├ … and asked not to be kept ► Discard   forget the payload
          ├ can't go on just now ──► Snooze        to the schedule set, costs no attempt
          └ cancelled by us ───────► Requeue       back to the queue's fetch end, costs no attempt
```

Each legal end has a constructor of its own; what would make none (a retry without a time, a burial that is counted but was never
a job) can't be written down.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import attrs

from trioworkers.send import MAX_DELAY_S, Send
from trioworkers.wire.dialect import Failure


@attrs.frozen
class Acknowledge:
    """Succeeded. What the handler enqueued goes out with it, `size` bytes or so. `value`: what it returned in JSON, if somebody wants it.

    `instead`: from the reason why that can't go out, what then becomes of the job.
    """

    sends: tuple[Send, ...] = ()
    size: int = attrs.field(default=0, eq=False, repr=False)
    value: bytes | None = attrs.field(default=None, repr=False)
    instead: Callable[[str], Outcome] | None = attrs.field(default=None, eq=False, repr=False)


ACKNOWLEDGE = Acknowledge()
"""How most jobs end: nothing goes out with it."""


def _delay(seconds: float) -> float:
    """`seconds` as a delay that Redis takes as part of a score. Raises ValueError for what is no number."""
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    capped = float(min(seconds, MAX_DELAY_S)) if is_number else math.nan
    if math.isnan(capped):
        raise ValueError(f"a delay is a number of seconds, not {seconds!r:.100}")
    return capped


@attrs.frozen
class Retry:
    """Failed; `payload`, with the retry's bookkeeping, is due in the retry set `delay_s` seconds after it was written. ValueError if that is no number."""

    payload: bytes
    delay_s: float = attrs.field(converter=_delay)


@attrs.frozen
class Bury:
    """Failed for good; `payload` goes to the dead set. `failure`: what a record of it says, where such are kept.

    `counted`: whether Sidekiq's totals count it as a job that failed. Not what never was a job: see `unreadable`.
    """

    payload: bytes
    counted: bool = attrs.field(default=True, kw_only=True)
    failure: Failure | None = attrs.field(default=None, eq=False, repr=False, kw_only=True)

    @classmethod
    def unreadable(cls, payload: bytes, reason: str) -> Bury:
        """What is no job goes to the dead set as it came, and counts nowhere."""
        return cls(payload, counted=False, failure=Failure("trioworkers.BadPayload", reason))


@attrs.frozen
class Discard:
    """Failed for good and not kept."""


@attrs.frozen
class Expire:
    """Over before it began: nobody wants it any more. Forgotten, and counted apart from failures. `how`: its time is over, there is another one already, or its batch is cancelled."""

    how: Literal["expired", "skipped", "deleted"] = "expired"


@attrs.frozen
class Requeue:
    """Stopped by us, which is not failing: back to the fetch end of its queue, the same bytes apart from fan-out progress. No attempt is counted."""

    payload: bytes | None = None


REQUEUE = Requeue()
"""How most of what is stopped ends: as it came."""


@attrs.frozen
class Snooze:
    """Can't go on just now (a paused host or class, no handler here): `payload` waits in the schedule set, `delay_s` seconds from the write. No attempt is counted.

    ValueError if `delay_s` is no number.
    """

    payload: bytes
    delay_s: float = attrs.field(converter=_delay)


@attrs.frozen
class Checkpoint:
    """Not an end: the attempt goes on. `payload`, with the fan-out progress so far, takes its place in the in-progress list."""

    payload: bytes


@attrs.frozen
class LetGo:
    """No end of ours: another worker has the job. Only what the attempt held is let go, if nobody has done that yet."""


LET_GO = LetGo()

Outcome = Acknowledge | Retry | Bury | Discard | Expire | Requeue | Snooze
