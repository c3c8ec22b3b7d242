"""When a worker has to look again which periodic jobs are due: it knows the next tick, so that entries which are not due cost it no command."""

from __future__ import annotations

import math
from collections.abc import Callable

import trio

from trioworkers.broker.contract import Due
from trioworkers.broker.holds.cron_entries import NEWS_S

LOOK_ANYWAY_S = 60.0
"""How long what we know is trusted: somebody may write there who tells nobody, such as an older version of ours."""
MAX_DRIFT_S = 0.02
"""By how much Redis's clock may leave ours before we look anew: heartbeats tell its time."""


class ComingTick:
    """`epoch_s`: Redis's time, in epoch seconds, as far as it is known.

    That an entry became due sooner than we know is to be seen for NEWS_S seconds (`cron_news`): by whoever looks at least so often. Who didn't looks at the entries.
    """

    def __init__(self, epoch_s: Callable[[], float]) -> None:
        self._epoch_s = epoch_s
        self._asked_at = self._trusted_until = -math.inf
        self._tick_at = math.inf
        self._ahead_s = 0.0

    def begin(self) -> bool:
        """A look for due jobs begins; whether it must be one at the entries, too. If it fails the next one must."""
        now = trio.current_time()
        knows = now < min(self._tick_at, self._trusted_until) and now - self._asked_at < NEWS_S / 2
        is_steady = abs(self._epoch_s() - now - self._ahead_s) < MAX_DRIFT_S
        self._began_at, self._before = now, (self._trusted_until, self._asked_at)
        self._trusted_until = -math.inf
        return not (knows and is_steady)

    def end(self, due: Due) -> None:
        """It has brought this."""
        now = trio.current_time()
        trusted_until, asked_at = self._before
        self._asked_at = self._began_at
        if due.entries:  # what comes of them changes it
            self._tick_at = math.inf
        elif due.tick_in_s is not None:
            self._tick_at, self._trusted_until = now + due.tick_in_s, now + LOOK_ANYWAY_S
            self._ahead_s = self._epoch_s() - now
        elif now - asked_at < NEWS_S:
            self._trusted_until = trusted_until

    @property
    def in_s(self) -> float:
        """Seconds until the next tick; inf if none is known of."""
        return max(0.0, self._tick_at - trio.current_time())
