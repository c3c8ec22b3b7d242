"""What Sidekiq's metrics page reads, from 7.0 on: how jobs of each class ended, and a histogram of how long the successful ones took."""

from __future__ import annotations

from collections.abc import Sequence

LIMITS_MS = (
    *(20, 30, 45, 65, 100, 150, 225, 335, 500, 750, 1100, 1700, 2500),
    *(3800, 5750, 8500, 13000, 20000, 30000, 45000, 65000, 100000, 150000, 225000, 335000),
)
"""Upper ends of the histogram's buckets; a 26th takes what lasted longer."""

PROCESSED, FAILED, TOTAL_MS, BUCKETS = 0, 1, 2, 3
"""Places in the counts of one class; the buckets follow from the last one on."""

NOTHING = [0] * (BUCKETS + len(LIMITS_MS) + 1)

Counts = list[int | float]


def can_be_counted(job_class: str) -> bool:
    """Whether a class's name fits into the fields, which a bar divides."""
    return "|" not in job_class


def fields(job_class: str, counts: Sequence[int | float]) -> list[str | int]:
    """Field and increment in turn, for the hashes."""
    named = {"p": counts[PROCESSED], "f": counts[FAILED], "ms": counts[TOTAL_MS]}
    return [item for name, number in named.items() if number for item in (f"{job_class}|{name}", int(number))]


def buckets(counts: Sequence[int | float]) -> list[int]:
    """Number of a bucket and its increment in turn."""
    return [int(item) for number, n in enumerate(counts[BUCKETS:]) if n for item in (number, n)]
