"""What Resque has besides: jobs that wait as resque-scheduler keeps them, and a registry of workers.

Any number of us and of node-resque's schedulers may be at it: each takes a job from its second's list in a step that only one can win.
Ruby's resque-scheduler doesn't: it reads a second's jobs, enqueues them and then cuts them off, and relies on its master lock. While
a process holds that, delayed jobs are left to it; the look and the move are fenced by the lock in the same step.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress

import attrs

from trioworkers.broker.contract import Due, DueSet
from trioworkers.broker.moves import RedisBroker
from trioworkers.broker.neighbours import Neighbours, ResqueNeighbours
from trioworkers.broker.redis.scripts import ENDS, script
from trioworkers.errors import Refused
from trioworkers.wire.packing import pack
from trioworkers.wire.resque import OUR_TAG, Resque, ResqueKeys, encode_running, iso_time, ruby_time, slot_id

DUE_DELAYED = script(
    __file__,
    "due_delayed",
    keys=("seconds", "second_prefix", "payload_prefix", "lock", "inner_lock", "queues", "failed"),
    args=("limit", "max_bytes", "huge_bytes", "queue_prefix", "before", "after"),
    preludes=("send", "pages", "named", "resque_lock"),
)
PROMOTE_DELAYED = script(
    __file__,
    "promote_delayed",
    keys=("seconds", "second_prefix", "payload_prefix", "lock", "inner_lock", "queues", "failed"),
    args=("work", "own", "*payloads"),
    preludes=(*ENDS, "move", "resque_lock"),
)
REGISTER_RESQUE = script(
    __file__,
    "register_resque",
    keys=("workers", "heartbeats", "worker_prefix", "stat_prefix"),
    args=("work", "started", "now_text", "dead_before", "our_tag"),
)

logger = logging.getLogger("trioworkers")

_OTHER_NAMESPACE = "our queues are %s:queue:…, but there are queues of Resque under %s as well: if it is those that you mean, the dialect is resque:%s"

_LOCK_PREFIX = "RESQUE_SCHEDULER_MASTER_LOCK_PREFIX"
"""Read as resque-scheduler reads it: who has given its lock another name says so here, too."""
MAX_SHOWN = 50
DEAD_AFTER_S = 300.0
"""As Ruby's Resque has it."""


class ResqueBroker(RedisBroker):
    """The moves of Resque's dialect."""

    keys: ResqueKeys
    _scheduler = ""

    async def due(self, limit: int, ticks: int = 0, *, look: bool = True) -> Due:
        """See `Promotes.due`."""
        due = await super().due(limit, ticks, look=look)
        keys = [*self.keys.waiting, *self._locks, self.keys.queues, self.keys.dead]
        most, size = self.guard.huge_bytes, self.at_once_bytes
        if DUE_DELAYED.name in self.too_slow or PROMOTE_DELAYED.name in self.too_slow:  # see `Promotes.due`
            most = min(most, self.connection.link.pace.carries)
        args = [limit, size, most, self.keys.queue(""), *self.around_dead("")]
        with self.too_slow.watching(DUE_DELAYED.name, size):
            wait, delayed, scheduler, huge = await self.connection.run(DUE_DELAYED, keys, args)
        self._say_huge(huge)
        self._note_scheduler(scheduler.decode(errors="replace"))
        waits = [wait_s for wait_s in (due.next_in_s, float(wait) if wait else None) if wait_s is not None]
        return attrs.evolve(due, delayed=delayed, next_in_s=min(waits, default=None))

    @property
    def _locks(self) -> tuple[str, str]:
        return self.keys.scheduler_locks(os.environ.get(_LOCK_PREFIX, ""))

    async def on_claimed(self, queues: Collection[str]) -> None:
        """See `RedisBroker.on_claimed`. Ruby's `Resque.redis.namespace = "resque:prod"` means keys that begin so."""
        del queues
        namespace = self.keys.namespace
        if self.connection.has_user:  # to look outside the namespace may be forbidden
            return
        rubys = ResqueKeys(f"{Resque.own_namespace}:{namespace}")
        if namespace == Resque.own_namespace:
            return
        with suppress(Refused):  # who may not look there has no jobs there
            if await self.connection.commands("").exists(rubys.queues):
                logger.warning(_OTHER_NAMESPACE, namespace, rubys.namespace, rubys.namespace)

    def _note_scheduler(self, scheduler: str) -> None:
        if scheduler and not self._scheduler:
            logger.info("delayed jobs are left to resque-scheduler %.200s, which holds its master lock", scheduler)
        elif self._scheduler and not scheduler:
            logger.info("no resque-scheduler holds its master lock any more: delayed jobs are promoted here")
        self._scheduler = scheduler

    async def promote(
        self, source: DueSet, entries: Sequence[tuple[bytes, str | None, bytes]]
    ) -> tuple[int, list[str]]:
        """See `Promotes.promote`."""
        if source != "delayed":
            return await super().promote(source, entries)
        keys = [*self.keys.waiting, *self._locks, self.keys.queues, self.keys.dead]
        work, payloads = self._promotions(entries)
        with self.too_slow.watching(PROMOTE_DELAYED.name, sum(map(len, payloads))):
            moved, *errors = await self.connection.run(PROMOTE_DELAYED, keys, [pack(work), self.keys.own, *payloads])
        return moved, [error.decode(errors="replace") for error in errors]

    def neighbours(self, queues: Collection[str]) -> Neighbours:
        """See `RedisBroker.neighbours`."""
        return ResqueNeighbours(self.connection, self.keys, queues)

    async def show(self, running: Sequence[tuple[str, bytes, float]], started_at_s: float, already: int) -> int:
        """Register us with Resque's workers, where Resque's tools look, with jobs that run: (queue, payload, since when in epoch seconds).

        A Resque worker runs one job at a time, so each of ours is shown as one; `already`: how many were shown before. Returns how
        many are now. Their jobs vanish by themselves after a minute.
        """
        shown: list[tuple[str, bytes | bool]] = []
        for number, job in enumerate(running[:MAX_SHOWN]):
            name = slot_id(self.worker, number)
            shown.append((name, encode_running(name, *job)))
        if not shown:
            shown.append((self.worker, False))
        await self._register(shown, range(len(shown), already), started_at_s)
        return len(shown)

    async def hide(self, already: int) -> None:
        """Strike us from Resque's registry."""
        await self._register([], range(already), 0.0)

    async def _register(
        self, shown: Sequence[tuple[str, bytes | bool]], struck: Iterable[int], started_at_s: float
    ) -> None:
        now_s = self.clock.now_s()
        keys = [self.keys.workers, self.keys.heartbeats, self.keys.worker(""), self.keys.stat("")]
        work = pack((shown, [slot_id(self.worker, number) for number in struck]))
        times = [ruby_time(started_at_s), iso_time(now_s), iso_time(now_s - DEAD_AFTER_S)]
        await self.connection.run(REGISTER_RESQUE, keys, [work, *times, OUR_TAG])
