"""Sender: what a `Client` needs, jobs into their queues or the schedule set; and the clock by which all that we write is dated."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import trio

from trioworkers import outcome as outcomes
from trioworkers.broker.redis import scripts
from trioworkers.broker.redis.connection import Connection
from trioworkers.broker.redis.outbox import Outbox
from trioworkers.broker.redis.scripts import pack
from trioworkers.size_guard import SizeGuard
from trioworkers.wire.dialect import SIDEKIQ, Dialect
from trioworkers.wire.job import Job
from trioworkers.wire.keys import Keys

CHUNK = 1000
CHUNK_BYTES = 8_000_000
"""How many jobs go to Redis in one step: it serves nobody else meanwhile."""


class Clock:
    """Redis's clock, as far as the last heartbeat knows: what we write down must not depend on this machine's."""

    def __init__(self) -> None:
        self._ahead_s = 0.0

    def set(self, redis_now_s: float) -> None:
        """Redis's time just now, in epoch seconds."""
        self._ahead_s = redis_now_s - time.time()

    def now_s(self) -> float:
        """Epoch seconds by Redis's clock."""
        return time.time() + self._ahead_s


class Sender:
    """The sending moves; all that a `Client` needs."""

    def __init__(
        self,
        connection: Connection,
        keys: Keys,
        clock: Clock | None = None,
        guard: SizeGuard | None = None,
        dialect: Dialect = SIDEKIQ,
    ) -> None:
        self.connection = connection
        self.keys = keys
        self.clock = Clock() if clock is None else clock
        self.guard = SizeGuard() if guard is None else guard
        self._outbox = Outbox(self._deliver)
        self.dialect = dialect
        self.foreign: Mapping[str, tuple[Dialect, Keys]] = {}
        """The queues that speak another dialect than this sender."""

    async def send(self, sends: Iterable[outcomes.Send], token: str = "") -> None:
        """Put jobs into their queues or the schedule set, a thousand or 8 MB at a time, of these all or none.

        Calls of many tasks share round trips. With a `token` the call may be repeated within two minutes after a lost reply. Raises BadJob before anything is sent.
        """
        works: list[bytes] = []
        remaining = iter(sends)
        while True:
            push, later = self.work(islice(remaining, CHUNK), self.guard.admit, CHUNK_BYTES)
            if not push and not later:
                break
            if works:  # a hundred thousand jobs take a while to encode
                await trio.lowlevel.checkpoint()
            works.append(pack((push, later)))
        for number, work in enumerate(works):
            if token:
                await self._deliver([work], self.keys.sent(f"{token}-{number}" if number else token))
            else:
                await self._outbox.send(work)

    async def _deliver(self, works: Sequence[bytes], token_key: str = "") -> Mapping[int, str]:
        problems = await self.connection.run(scripts.ENQUEUE, [token_key], list(works))
        return {place: problem.decode(errors="replace") for place, problem in enumerate(problems) if problem}

    def work(
        self,
        sends: Iterable[outcomes.Send],
        admit: Callable[[Job, bytes], None] | None = None,
        max_bytes: float = math.inf,
    ) -> tuple[list[Any], list[Any]]:
        """`(push, later)` as `send.lua` wants them. `admit`: sees each payload, and may refuse it.

        Takes no more from `sends` once their payloads have `max_bytes`.
        """
        now_s = self.clock.now_s()
        size = 0
        push: dict[str, tuple[Any, ...]] = {}
        later = []
        for send in sends:
            job = send.job
            dialect, keys = self.spoken_on(job.queue)
            at_once = send.delay_s is None and send.at_s is None
            payload = dialect.encode(job, now_s, enqueued=at_once, due_s=None if at_once else send.due_s(now_s))
            if admit is not None:
                admit(job, payload)
            if at_once:
                if job.queue not in push:
                    push[job.queue] = (job.queue, keys.queue(job.queue), [], dialect.pushed_with, keys.queues)
                push[job.queue][2].append(payload)
            else:
                later.append((payload, send.delay_s or 0.0, send.at_s or False, keys.waiting))
            size += len(payload)
            if size >= max_bytes:
                break
        return list(push.values()), later

    def spoken_on(self, queue: str) -> tuple[Dialect, Keys]:
        """What is spoken on a queue, and where it lies."""
        return self.foreign.get(queue) or (self.dialect, self.keys)
