"""Pace: how much the way to Redis carries in about a second, and so how much is asked for at once.

A reply of many megabytes over a slow link takes longer than anybody should wait for it: jobs that are there already could run
meanwhile, and a stop would have to wait, too. Nothing is measured where it doesn't matter: only what took more than a second counts.
"""

from __future__ import annotations

import logging
import math

import trio

logger = logging.getLogger("trioworkers")

MOST_BYTES = 8_000_000
LEAST_BYTES = 64_000
SLOW_S, QUICK_S = 1.0, 0.25
SAID_BELOW = 1_000_000
SLOW_FOR_S = 60.0
"""So long a line counts as slow after it was seen to be."""


class Pace:
    """One worker's. `bytes`: what to ask for at once; a single payload may be larger."""

    def __init__(self, address: str) -> None:
        self.bytes = MOST_BYTES
        self._address = address
        self._said = False
        self._slow_until = -math.inf

    @property
    def is_slow(self) -> bool:
        """Whether replies were seen lately to come slowly: more than Redis's own doing, and more than chance."""
        return trio.current_time() < self._slow_until

    def took(self, size: int, seconds: float) -> None:
        """A reply of `size` bytes took so long."""
        if seconds > SLOW_S / 2 and LEAST_BYTES / 2 <= size < SAID_BELOW * seconds:
            self._slow_until = trio.current_time() + SLOW_FOR_S
        if seconds > SLOW_S:
            self._set(int(size / seconds))
        elif seconds < QUICK_S and size * 2 >= self.bytes:
            self.bytes = min(MOST_BYTES, self.bytes * 2)

    def failed(self) -> None:
        """A reply didn't come. Perhaps it was too large."""
        self._set(self.bytes // 4)

    def _set(self, size: int) -> None:
        self.bytes = min(MOST_BYTES, max(LEAST_BYTES, size))
        if self.bytes < SAID_BELOW and not self._said:
            self._said = True
            logger.warning(
                "the way to Redis at %s is slow: about %d kB are fetched at once (said once)",
                self._address,
                self.bytes // 1000,
            )
