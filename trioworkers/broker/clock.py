"""The clock by which all that we write is dated."""

from __future__ import annotations

from time import time


class Clock:
    """Redis's clock, as far as the last heartbeat knows: what we write down must not depend on this machine's."""

    def __init__(self) -> None:
        self._ahead_s = 0.0

    def set(self, redis_now_s: float) -> None:
        """Redis's time just now, in epoch seconds."""
        self._ahead_s = redis_now_s - time()

    def now_s(self) -> float:
        """Epoch seconds by Redis's clock."""
        return time() + self._ahead_s
