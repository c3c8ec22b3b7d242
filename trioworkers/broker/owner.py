"""Owner: who one worker is in Redis, in one dialect: its lease, its in-progress lists, how they stand in the registry."""

from __future__ import annotations

from trioworkers.broker.clock import Clock
from trioworkers.broker.contract import PAGE_BYTES, Holder
from trioworkers.broker.redis.connection import Connection
from trioworkers.broker.sender import Sender
from trioworkers.broker.too_slow import TooSlow
from trioworkers.size_guard import SizeGuard
from trioworkers.wire.dialect import SIDEKIQ, Dialect, Failure
from trioworkers.wire.job import new_jid
from trioworkers.wire.keys import Keys


class Owner(Sender):
    """See the module. `worker`: its name in that family's records."""

    def __init__(
        self,
        connection: Connection,
        keys: Keys,
        holder: Holder,
        clock: Clock | None = None,
        guard: SizeGuard | None = None,
        dialect: Dialect = SIDEKIQ,
        worker: str = "",
    ) -> None:
        super().__init__(connection, keys, clock, guard, dialect)
        self.holder = holder
        self.worker = worker
        self._lease_key = keys.lease(holder.process_id)
        self.too_slow = TooSlow(connection.link.pace)
        self.cut_off: set[str] = set()
        """Queues a wait for which was cut off, perhaps in the middle of a payload."""

    @property
    def at_once_bytes(self) -> int:
        """How much is to be moved in one step: what Redis does in a moment, and the link carries in about a second."""
        return min(PAGE_BYTES, self.connection.link.pace.bytes)

    def registry_entry(self, queue: str) -> str:
        """How our list for `queue` stands in the registry: a process id has no spaces."""
        return f"{self.holder.process_id} {self.tagged(queue)}"

    def tagged(self, queue: str) -> str:
        """The queue's name and, where it isn't plainly Sidekiq's, in which dialect it is; names have no spaces."""
        return f"{queue} {self.keys.tag}" if self.keys.tag else queue

    def in_progress(self, queue: str) -> str:
        """The key of our in-progress list for `queue`."""
        return self.keys.in_progress(queue, self.holder.process_id)

    def holds(self, queue: str) -> str:
        """The key of the record of what the attempts in our in-progress list for `queue` hold."""
        return self.keys.holds(queue, self.holder.process_id)

    def as_dead(self, payload: bytes, queue: str, failure: Failure | None) -> bytes:
        """What is kept of a payload that failed for good: itself, or a record of its failure."""
        dialect, _ = self.spoken_on(queue)
        if not dialect.keeps_records:
            return payload
        failure = failure or Failure("trioworkers.BadPayload", "unreadable")
        return dialect.record(payload, queue, failure, self.clock.now_s(), self.worker)

    def around_dead(self, queue: str) -> tuple[bytes, bytes]:
        """What a record says before and after a payload that Redis itself writes into it, as a text; nothing where no records are kept."""
        if not self.spoken_on(queue)[0].keeps_records:
            return b"", b""
        mark = new_jid()
        before, _, after = self.as_dead(mark.encode(), queue, None).partition(f'"{mark}"'.encode())
        return before, after
