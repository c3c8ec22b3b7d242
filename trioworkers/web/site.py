"""What all pages of one dashboard share: which Redis, what may be shown, what runs in the background, what is remembered for a moment."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol

import trio

from trioworkers.broker.people.session import Session, open_session
from trioworkers.broker.redis.link import Link
from trioworkers.chosen_redis import ChosenRedis
from trioworkers.errors import BrokerError
from trioworkers.redis_url import shown_url
from trioworkers.web.operations import Operations
from trioworkers.web.redaction import Redact

REPLY_TIMEOUT_S = 2.0
PAGES_AT_ONCE = 8
SCANS_AT_ONCE = 2
FRESH_S = 1.0
MOST_KEPT = 100
FORGOTTEN = ("page:", "snapshot", "runs:")
"""What buttons change, of what is remembered for a moment."""


class _QuietLink(Link):
    """What goes wrong is said on the page that wanted it; a line in the log about running jobs would be a worker's to write."""

    def failed(self, operation: str, error: BrokerError, started_at: float) -> None:
        """Nothing."""


class OwnMetrics(Protocol):
    """What the worker does that serves this dashboard, or what all processes beside it do."""

    def text(self) -> bytes:
        """As Prometheus reads it. From any thread; may take a second."""
        ...


class Site:
    """One dashboard."""

    def __init__(
        self,
        redis: ChosenRedis,
        *,
        read_only: bool = False,
        redact: Redact | None = None,
        metrics: OwnMetrics | None = None,
    ) -> None:
        self.redis = redis
        self.metrics = metrics
        self.read_only = read_only
        self.redact = redact
        self.operations = Operations(self.session)
        self.pages = trio.CapacityLimiter(PAGES_AT_ONCE)
        """So many pages ask Redis at once, however many tabs are open; the others wait."""
        self.scans = trio.CapacityLimiter(SCANS_AT_ONCE)
        """So many of them, and of what runs in the background, walk through many jobs."""
        self._link = _QuietLink(shown_url(redis.url))
        self._kept: dict[str, tuple[float, Any]] = {}
        self._looking: dict[str, trio.Lock] = {}

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """A connection of its own for one page or operation; so none waits behind another's long reply, and what it leaves open ends with it."""
        with self.redis.explained():
            async with open_session(self.redis.url, self.redis.namespace, self._link, REPLY_TIMEOUT_S) as session:
                yield session

    async def fresh(self, name: str, look: Callable[[], Awaitable[Any]], for_s: float = FRESH_S) -> Any:
        """What `look` says, asked at most so often: five hundred tabs cost Redis what one costs."""
        lock = self._looking.setdefault(name, trio.Lock())
        try:
            async with lock:  # whoever comes meanwhile waits for what is found; if who looks leaves, the next one does
                kept = self._kept.get(name)
                if kept is None or trio.current_time() - kept[0] >= for_s:
                    found = await look()
                    self._kept.pop(name, None)
                    self._kept[name] = kept = (trio.current_time(), found)
                    while len(self._kept) > MOST_KEPT:  # names may be of what visitors ask for
                        self._kept.pop(next(iter(self._kept)))
                return kept[1]
        finally:
            if not lock.locked() and self._looking.get(name) is lock:
                del self._looking[name]

    def forget(self) -> None:
        """Somebody has changed something: the next page looks anew."""
        self._kept = {name: kept for name, kept in self._kept.items() if not name.startswith(FORGOTTEN)}
