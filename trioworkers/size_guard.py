"""Says when a payload is large, and refuses one that no worker would run: Redis isn't meant for large objects."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from trioworkers.errors import BadJob
from trioworkers.settings import Settings
from trioworkers.wire.job import Job

logger = logging.getLogger("trioworkers")

QUIET_S = 600.0
MAX_CLASSES = 1000
"""Class names come from outside; what is remembered of them has a bound."""


class SizeGuard:
    """One sender's or worker's eye on sizes. A class is warned of once in ten minutes; arguments are never shown."""

    def __init__(self, settings: Settings | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        settings = settings or Settings()
        self.max_bytes = settings.max_payload_bytes
        self._large_bytes = settings.large_payload_bytes
        self.small_bytes = min(self._large_bytes, self.max_bytes)
        """Of what is no larger there is nothing to say."""
        self._clock = clock
        self._said: dict[tuple[str, str], float] = {}

    @property
    def huge_bytes(self) -> int:
        """What is larger isn't even fetched: twice what could be a job of ours with all that its failures add."""
        return 2 * self.max_bytes + (1 << 20)

    def check(self, job: Job, payload: bytes) -> None:
        """Take a look at what is to be sent. Raises BadJob for more than `max_payload_bytes`."""
        size = len(payload)
        if size <= self.small_bytes:  # nearly all
            return
        if size > self.max_bytes:
            raise BadJob(
                f"{job.job_class}: {size:,} bytes, more than max_payload_bytes={self.max_bytes:,}: "
                "keep the data elsewhere and send where it is"
            )
        self.notice(job, size, "enqueued")

    def notice(self, job: Job, size: int, doing: str) -> None:
        """Warn if a payload of `size` bytes is large."""
        if size <= self._large_bytes:
            return
        key, now_s = (doing, job.job_class), self._clock()
        if now_s - self._said.get(key, now_s - QUIET_S) < QUIET_S:
            return
        if len(self._said) >= MAX_CLASSES:
            self._said.clear()
        self._said[key] = now_s
        logger.warning(
            "large payload %s: class=%s jid=%s queue=%s, %d bytes, more than large_payload_bytes=%d; "
            "better keep the data elsewhere and send where it is (said once per class in %d minutes)",
            doing,
            job.job_class,
            job.jid,
            job.queue,
            size,
            self._large_bytes,
            QUIET_S / 60,
            extra={"jid": job.jid, "job_class": job.job_class, "queue": job.queue},
        )
