"""The numbers of a limit, as they are written by people and as they lie in Redis."""

from __future__ import annotations

import re
from typing import NamedTuple

_RATE = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)/(\d{0,6})(s|m|h|d)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
SHORTEST_S, LONGEST_S = 1e-5, 1e8


class LimitSpec(NamedTuple):
    """`concurrency`: 0 for none; `interval_s`: seconds between two starts, 0 without a rate; `burst`: how many may start at once."""

    concurrency: int
    interval_s: float = 0.0
    burst: int = 1

    def stored(self) -> tuple[int, float, float, float, int]:
        """As `limits.lua` has it; since when and seen when is for Redis to say."""
        return self.concurrency, 0.0, 0.0, self.interval_s, self.burst

    def __str__(self) -> str:
        parts = [f"{self.concurrency} at once"] if self.concurrency else []
        if self.interval_s:
            parts.append(shown_rate(self.interval_s) + (f", {self.burst} in a burst" if self.burst > 1 else ""))
        return ", ".join(parts) or "no limit"


def interval_s(rate: object) -> float:
    """Seconds between two starts at `rate`. Raises ValueError that says what a rate is."""
    found = _RATE.fullmatch(rate) if isinstance(rate, str) else None
    count = float(found[1]) if found else 0.0
    seconds = int(found[2] or 1) * _SECONDS[found[3]] if found else 0
    if not count or not SHORTEST_S <= seconds / count <= LONGEST_S:
        raise ValueError(f"a rate is like '100/s', '20/m', '5/10s' or '1000/h', not {rate!r:.80}")
    return seconds / count


def shown_rate(between_s: float) -> str:
    """For people: in the unit in which it is no fraction, if there is one."""
    for unit, seconds in _SECONDS.items():
        count = seconds / between_s
        if count >= 1:
            return f"{count:.6g}/{unit}"
    return f"1/{between_s:.6g}s"


def queue_limit_name(name: str) -> str:
    """Under which name Redis keeps a limit of queues. Those of classes can't have such a one."""
    return f"@{name}"
