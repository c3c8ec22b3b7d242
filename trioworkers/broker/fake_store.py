"""What a broker in memory has in place of a Redis: lists and sets of payloads, what is held, and calls that can fail."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TypeVar

import trio

from trioworkers.broker.clock import Clock
from trioworkers.broker.contract import (
    PAGE_BYTES,
    Holder,
)
from trioworkers.broker.holds.fake_batches import FakeBatches
from trioworkers.broker.holds.fake_effects import FakeEffects
from trioworkers.broker.holds.fake_limits import FakeLimits
from trioworkers.broker.holds.fake_locks import DROPS, FakeLocks
from trioworkers.broker.holds.fake_ticks import FakeTicks
from trioworkers.broker.holds.locks import Answer
from trioworkers.broker.sorted_payloads import SortedPayloads
from trioworkers.errors import BrokerError
from trioworkers.send import Send
from trioworkers.sending import Met, Sending, debounced
from trioworkers.size_guard import SizeGuard
from trioworkers.wire import places
from trioworkers.wire.dialect import SIDEKIQ, Dialect
from trioworkers.wire.job import Job
from trioworkers.wire.keys import Keys
from trioworkers.wire.limit_spec import LimitSpec

EPOCH_S = 1_700_000_000.0
T = TypeVar("T")


class _VirtualClock(Clock):
    """Trio's clock, which began at `epoch_s`."""

    def __init__(self, epoch_s: float) -> None:
        super().__init__()
        self._epoch_s = epoch_s

    def now_s(self) -> float:
        return self._epoch_s + trio.current_time()


class FakeStore:
    """See the module. `consumed`: the queues that count as work when `has_work` is asked. `dialects`: where not `dialect` is spoken.

    `epoch_s`: what time it is, in epoch seconds, at which Trio's clock begins.
    """

    def __init__(
        self,
        consumed: Collection[str] = (),
        process_id: str = "fake",
        guard: SizeGuard | None = None,
        dialect: Dialect = SIDEKIQ,
        dialects: Mapping[str, Dialect] | None = None,
        epoch_s: float = EPOCH_S,
    ) -> None:
        self.dialect = dialect
        self.keys = dialect.keys("")
        self.worker = "fake"
        self.clock: Clock = _VirtualClock(epoch_s)
        self.guard = SizeGuard() if guard is None else guard
        foreign = {queue: (spoken, spoken.keys("")) for queue, spoken in (dialects or {}).items()}
        self.sending = Sending(self.keys, dialect, self.guard, foreign)
        self.holder = Holder(process_id, "fake", 30_000)
        self.queues: dict[str, list[bytes]] = {}  # newest first, as in Redis
        self.lists: dict[tuple[str, str], list[bytes]] = {}
        self.sets = {name: SortedPayloads() for name in (*(place.key for place in places.sets()), "delayed")}
        self.stats: Counter[str] = Counter()
        self.crash_counts: Counter[str] = Counter()
        self.replies: dict[str, bytes] = {}
        self.in_quarantine: set[str] = set()
        self.queue_limits: dict[str, tuple[str, LimitSpec]] = {}
        self._consumed = consumed
        self._changed = trio.Event()
        self._faults: deque[tuple[BrokerError, bool]] = deque()
        self._admitted: dict[str, tuple[int, list[int | str]]] = {}
        self.limits = FakeLimits(
            self.sets["parked"], lambda queue, payload: self._queue(queue).append(payload), self.clock.now_s
        )
        self.held = FakeEffects(self.clock.now_s, self.limits)
        self.limits.expired = self.held.apply
        self.locks = FakeLocks(self.sets["next"], self.sets["schedule"], self._push, self.clock.now_s, self.held.apply)
        self.held.unlock = self.locks.unlock
        self.ticks = FakeTicks(self.clock.now_s, self._send)
        self.held.run_ended = self.ticks.ended
        self._claimed: dict[str, tuple[int, list[Answer]]] = {}
        self.batches = FakeBatches(
            self._push, self._encoded, self.sets["successors"], self.clock.now_s, self.held.apply
        )
        self.held.member_ended = self.batches.ended
        self._settled: tuple[int, dict[int, str]] = (0, {})

    # ── for tests ──────────────────────────────────────────────────────────────────────────────────────────────────────

    at_once_bytes = PAGE_BYTES

    def fail_next(self, error: BrokerError, *, after: bool = False, times: int = 1) -> None:
        """Have the next calls raise, before they take effect or (their reply is lost) after."""
        self._faults.extend([(error, after)] * times)

    def has_work(self) -> bool:
        """Whether something waits on a consumed queue, or runs."""
        return any(self.queues.get(queue) for queue in self._consumed) or any(self.lists.values())

    def later(self) -> Iterator[bytes]:
        """What will come due."""
        due = (*(place.key for place in places.sets() if place.is_due), "delayed")
        return (payload for name in due for payload in self.sets[name])

    @property
    def next_change(self) -> trio.Event:
        """Set with the next move."""
        return self._changed

    async def _call(self, move: Callable[[], T], *, looks: bool = False) -> T:
        await trio.lowlevel.checkpoint()
        error, after = self._faults.popleft() if self._faults else (None, False)
        if error is not None and not after:
            raise error
        result = move()
        if not looks:
            self._changed.set()
            self._changed = trio.Event()
        if error is not None:
            raise error
        return result

    # ── its lists ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

    def spoken_on(self, queue: str) -> tuple[Dialect, Keys]:
        """See `Sender.spoken_on`."""
        return self.sending.spoken_on(queue)

    def _queue(self, queue: str) -> list[bytes]:
        return self.queues.setdefault(queue, [])

    def _list(self, queue: str, process_id: str = "") -> list[bytes]:
        return self.lists.setdefault((queue, process_id or self.holder.process_id), [])

    def _push(self, queue: str, payload: bytes) -> None:
        self.queues.setdefault(queue, []).insert(0, payload)

    def _encoded(self, job: Job) -> bytes:
        return self.spoken_on(job.queue)[0].encode(job, self.clock.now_s())

    def _send(self, sends: Sequence[Send], given_up: tuple[str, str] | None = None) -> Met:
        now_s, met = self.clock.now_s(), {}
        unsent: set[str] = set()
        for number, send in enumerate(sends):
            job = send.job
            waits = job.batch is not None and bool(job.batch.after)  # for others
            if waits and job.lock is None:
                continue
            later = debounced(send)
            due_s = None if later.delay_s is None and later.at_s is None else later.due_s(now_s)
            dialect, keys = self.spoken_on(job.queue)
            payload = dialect.encode(job, now_s, enqueued=due_s is None, due_s=due_s)
            if job.lock is not None:
                goes_out, there, due_s = self.locks.send(job, job.lock, payload, due_s, given_up)
                if there is not None:
                    met[number] = there
                if not goes_out and (there == job.jid or job.lock.on_conflict in DROPS):
                    unsent.add(job.jid)
                if waits or not goes_out:
                    continue
            if due_s is None:
                self._push(job.queue, payload)
            else:
                waits_in = dialect.waits_in(payload, keys)
                self.sets["schedule" if waits_in == keys.schedule else "delayed"].add(payload, due_s)
        self.batches.add([send.job for send in sends], unsent)
        return met
