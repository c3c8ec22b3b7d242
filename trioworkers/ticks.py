"""Moments at which a worker's chores come round: the same for all, since a process that wakes once for three of them hardly works more than for one."""

from __future__ import annotations

import math

import trio


def next_tick(interval_s: float) -> float:
    """The next multiple of `interval_s` on Trio's clock, which begins anywhere: no two workers share it."""
    return (math.floor(trio.current_time() / interval_s) + 1) * interval_s
