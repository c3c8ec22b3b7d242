"""Numbers that strangers write: of any size, of any kind. Here each gets its bounds, so that no arithmetic on it can fail.

JSON has no largest integer, and neither have Ruby and Python; floats, clocks and `time.gmtime` have. What reads a number of a payload,
a record or a reply reads it with one of these.
"""

from __future__ import annotations

import math

MAX_COUNT = 1_000_000_000
"""More than that is as good as endless."""
MAX_COUNT_DIGITS = 18
"""Of what Redis counts: its own numbers have 64 bits."""
MAX_S = 1e9
"""Thirty years: no delay and no limit in seconds is longer. Sidekiq's own limit for `retry_for`."""
FIRST_S, LAST_S = -62e9, 253_402_300_799.0
"""The year 5, and the last second of the year 9999: Python's dates end thereabouts."""
MILLISECONDS_FROM = 100_000_000_000
"""A whole number from here on is of milliseconds: as such it is of 1973, as seconds of the year 5138."""


def count(value: object, least: int = -1) -> int | None:
    """A whole number from `least` to `MAX_COUNT`; JavaScript and Lua write 2.0, others "2". None for what is no such number."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value[:20])
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return max(least, min(value, MAX_COUNT))


def seconds(value: object) -> float | None:
    """A length of time, at most `MAX_S` either way; None for what is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:  # noqa: PLR0124 - NaN
        return None
    return float(max(-MAX_S, min(value, MAX_S)))


def epoch_s(value: object, first_s: float = FIRST_S, last_s: float = LAST_S) -> float | None:
    """A time field in epoch seconds: Sidekiq writes floats of seconds to 7.x, whole milliseconds from 8.0 on.

    Whole numbers too small for milliseconds (before 1973) are seconds. None for what is no number, like go-workers' texts, and
    for what no calendar has.
    """
    if type(value) is float and first_s <= value <= last_s:  # nearly all
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not first_s <= value <= last_s * 1000:  # compared before an integer of any size becomes a float
        return None
    found = value / 1000 if isinstance(value, int) and value > MILLISECONDS_FROM else float(value)
    return found if found <= last_s else None


def number_in(text: bytes | None) -> float | None:
    """A number as Redis keeps it; None for what is none."""
    try:
        found = float(text or b"")
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def count_in(text: bytes | None) -> int | None:
    """A count as Redis keeps it; None for what is none: no text, no whole number, a negative one, or one that Redis itself couldn't count on from."""
    return int(text) if text is not None and len(text) <= MAX_COUNT_DIGITS and text.isdigit() else None
