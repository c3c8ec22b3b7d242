"""How a count is said to people. Pure."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """`1 job`, `0 jobs`, `1,204 jobs`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def jobs_wait(count: int) -> str:
    """`1 job waits`, `3 jobs wait`."""
    return f"{counted(count, 'job')} {'waits' if count == 1 else 'wait'}"
