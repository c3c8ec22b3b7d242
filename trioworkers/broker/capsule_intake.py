"""The fetching side of a capsule's queues: one script takes from all of them, one connection hears news of all of them.

Up to `MOST_BLOCKED` queues have a connection each besides, on which the next job comes by itself, as in a queue that shares with none.
Each connection is an epoch, see `intake.py`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import trio

from trioworkers.broker.contract import FetchedTogether, Heard, Intake, LeaseGone
from trioworkers.broker.holds.queue_limit import LimitedIntake, open_limited_intake
from trioworkers.broker.intake import SHORTEST_BLOCK_S, RedisIntake, open_intake, tell_of_huge
from trioworkers.broker.moves import RedisBroker
from trioworkers.broker.redis.connection import Connection, connect
from trioworkers.broker.redis.metered import RawCommands
from trioworkers.broker.redis.scripts import script
from trioworkers.errors import Refused, Unavailable
from trioworkers.ticks import next_tick
from trioworkers.wire.capsule import Capsule
from trioworkers.wire.limit_spec import LimitSpec
from trioworkers.wire.packing import pack

_FETCH_CAPSULE = partial(
    script,
    __file__,
    "fetch_capsule",
    keys=("lease", "registry", "crashes", "drained", "unread", "cancelled", "*places"),
    args=("limit", "max_bytes", "ours", "lease_ms", "renew", "huge_bytes", "own", "queues", "passed", "owed"),
)
FETCH_CAPSULE = _FETCH_CAPSULE(preludes=("pages", "unread", "fetching"))
FETCH_CAPSULE_LIMITED = _FETCH_CAPSULE(preludes=("pages", "unread", "fetching", "send", "limits", "queue_limit"))
"""Where one of the queues is under a limit over the fleet: see `holds/queue_limit.py`."""
QueueLimits = Mapping[str, tuple[str, LimitSpec]]
"""By queue, the limit that it is under: as what Redis knows it, and what our code says of it."""

MOST_BLOCKED = 10
"""Queues of a capsule that are waited for with a connection each. Of more it hears with one, and then a job costs a round trip more."""
POLL_S = 0.2
"""How often is looked where Redis, or our user there, doesn't let us hear of changes."""


@asynccontextmanager
async def open_capsule_intake(
    brokers: Mapping[str, RedisBroker], url: str, block_s: float, capsule: Capsule, limits: QueueLimits | None = None
) -> AsyncIterator[RedisCapsuleIntake]:
    """An intake for the capsule's queues, each with its broker, that waits until the next multiple of `block_s` seconds; closed at the end of the block."""
    broker = next(iter(brokers.values()))
    link, namespace = broker.connection.link, broker.keys.worker_namespace
    async with AsyncExitStack() as stack:
        fetching = await stack.enter_async_context(connect(url, link, namespace=namespace))
        hearing = await stack.enter_async_context(connect(url, link, namespace=namespace))
        waits: dict[str, Intake] = {}
        if len(brokers) <= MOST_BLOCKED:
            for queue, its in brokers.items():
                waits[queue] = await stack.enter_async_context(
                    _open(its, url, block_s, queue, (limits or {}).get(queue))
                )
        intake = RedisCapsuleIntake(brokers, fetching, hearing, waits, block_s, capsule, limits or {})
        await intake.bury_cut_off()
        yield intake


def _open(
    broker: RedisBroker, url: str, block_s: float, queue: str, limit: tuple[str, LimitSpec] | None
) -> AbstractAsyncContextManager[Intake]:
    return (
        open_intake(broker, url, block_s, queue)
        if limit is None
        else open_limited_intake(broker, url, block_s, *limit, queue)
    )


def _alone(
    broker: RedisBroker, fetching: Connection, queue: str, block_s: float, limit: tuple[str, LimitSpec] | None
) -> RedisIntake:
    if limit is None:
        return RedisIntake(broker, fetching, queue, block_s)
    return LimitedIntake(broker, fetching, queue, block_s, *limit)


class RedisCapsuleIntake:
    """See `open_capsule_intake`. `waits`: see `CapsuleIntake`."""

    def __init__(
        self,
        brokers: Mapping[str, RedisBroker],
        fetching: Connection,
        hearing: Connection,
        waits: Mapping[str, Intake],
        block_s: float,
        capsule: Capsule,
        limits: QueueLimits,
    ) -> None:
        self.waits = waits
        self._script = FETCH_CAPSULE if limits.keys().isdisjoint(brokers) else FETCH_CAPSULE_LIMITED
        self._brokers = brokers
        self._broker = broker = next(iter(brokers.values()))
        self._fetching = fetching
        self._hearing = hearing
        self._block_s = block_s
        self._names = list(brokers)
        self._alone = {
            queue: _alone(its, fetching, queue, block_s, limits.get(queue)) for queue, its in brokers.items()
        }
        self._queues = {queue: its.keys.queue(queue) for queue, its in brokers.items()}
        self._keys_of = {queue: key.encode() for queue, key in self._queues.items()}
        self._lists = [its.in_progress(queue) for queue, its in brokers.items()]
        keys, process_id = broker.keys, broker.holder.process_id
        self._keys = [
            keys.lease(process_id),
            keys.in_progress_lists,
            keys.crashes,
            keys.drained(process_id),
            keys.unread,
            keys.cancelled_batches,
        ]
        for (queue, its), held in zip(brokers.items(), self._lists, strict=True):
            self._keys += [self._queues[queue], held, its.keys.dead]
        # How one payload is taken when Redis tells of it. No script asks about it then: whether anybody is suspected is asked with it.
        self._takes: dict[str, RawCommands] = {
            queue: [
                (b"LMOVE", (self._queues[queue], held, its.dialect.fetched_from, b"LEFT")),
                (b"EXISTS", (its.keys.crashes, its.keys.cancelled_batches)),
            ]
            for (queue, its), held in zip(brokers.items(), self._lists, strict=True)
            if queue not in limits
        }
        self._told = pack([_told(queue, its, capsule, limits.get(queue)) for queue, its in brokers.items()])
        self._owed = pack({})
        self._operation = f"fetch from capsule {capsule.name}"
        self._listening = f"news of capsule {capsule.name}"
        self._is_deaf = False
        self._refused: set[str] = set()

    @property
    def may_wait(self) -> bool:
        """See `RedisIntake.may_wait`."""
        return self._broker.holder.sure_until - trio.current_time() > SHORTEST_BLOCK_S

    async def fetch(self, limit: int, queues: Sequence[str]) -> FetchedTogether:
        """Move up to `limit` payloads of these queues into our in-progress lists, shared by weight or in their order, without waiting.

        No more than the link carries in about a second. A lost reply leaves strays for `InProgress.audit`.
        """
        if len(queues) == 1:  # a job that came by itself, mostly
            return await self._fetch_alone(queues[0], limit)
        pace, holder = self._fetching.link.pace, self._broker.holder
        passed = b"" if len(queues) == len(self._names) else pack([*self._numbers_but(queues)])
        renew = int(not self.may_wait)
        args = [limit, pace.bytes, holder.lease, holder.lease_ms, renew, self._broker.guard.huge_bytes]
        args += [self._broker.keys.own, self._told, passed, self._owed]
        asked_at = trio.current_time()
        try:
            gone, suspects, fetched, self._owed, errors, again = await self._fetching.run(
                self._script, self._keys, args, self._operation
            )
        except Unavailable as error:
            pace.lost(error, pace.bytes)
            raise
        payloads = {self._names[number - 1]: its for number, its, _ in fetched}
        if payloads:
            pace.took(sum(sum(map(len, its)) for its in payloads.values()), trio.current_time() - asked_at)
        for number, _, sizes in fetched:
            tell_of_huge(self._names[number - 1], sizes, self._broker.guard.max_bytes)
        if gone or renew:
            holder.renewed_at = asked_at
        refused = {self._names[number - 1]: text for number, text in zip(errors[::2], errors[1::2], strict=True)}
        if refused or self._refused:
            self._tell_of_refused(refused, queues, asked_at)
        again_in_s = {
            self._names[number - 1]: ms / 1000 for number, ms in zip(again[::2], again[1::2], strict=True) if ms >= 0
        }
        return FetchedTogether(payloads, [*refused], LeaseGone(gone), bool(suspects), again_in_s)

    async def _fetch_alone(self, queue: str, limit: int) -> FetchedTogether:
        try:
            its = await self._alone[queue].fetch(limit)
        except Refused:  # the log says so
            self._refused.add(queue)
            return FetchedTogether({}, [queue])
        self._refused.discard(queue)
        again_in_s = {} if its.again_in_s is None else {queue: its.again_in_s}
        payloads = {queue: its.payloads} if its.payloads else {}
        return FetchedTogether(payloads, (), its.lease_gone, its.suspects, again_in_s)

    def _numbers_but(self, queues: Collection[str]) -> Iterator[int]:
        looked_at = set(queues)
        return (number for number, name in enumerate(self._names, 1) if name not in looked_at)

    def _tell_of_refused(self, refused: Mapping[str, bytes], queues: Collection[str], asked_at: float) -> None:
        """A queue that is no list keeps none of the others up; the log says once that it is refused, and once that it is not any more."""
        link = self._fetching.link
        for queue, text in refused.items():
            link.failed(f"fetch from {queue}", Refused(text.decode(errors="replace")), asked_at)
        for queue in (self._refused - refused.keys()) & set(queues):
            link.succeeded(f"fetch from {queue}")
        self._refused = (self._refused - set(queues)) | refused.keys()

    async def lengths(self) -> Sequence[int]:
        """How many payloads our in-progress lists hold, in the order of the queues; -1 for what is no list."""
        return await self._broker.lengths(self._lists)

    async def wait_for_news(self, queues: Sequence[str], has_slot: Callable[[], bool]) -> Heard:
        """Wait until there is something in one of these queues, until all that the worker does now and then comes round; in which there may be.

        If Redis tells of one of them, and `has_slot` says then that there is a slot, its next payload is taken at once: that is half a fetch earlier. Cancellation:
        leaves nothing behind; comes too late once something is being taken.
        """
        ends_at = next_tick(self._block_s)
        if not self._is_deaf:
            try:
                return await self._hear({self._keys_of[queue]: queue for queue in queues}, ends_at, has_slot)
            except Refused:  # the log says so; a new epoch tries again
                self._is_deaf = True
        while trio.current_time() < ends_at:
            await trio.sleep(POLL_S)
            if await self._fetching.commands(self._listening).any_exists([self._queues[queue] for queue in queues]):
                return Heard(queues)
        return Heard()

    async def _hear(self, of_key: Mapping[bytes, str], ends_at: float, has_slot: Callable[[], bool]) -> Heard:
        taken_from = ""

        def take(key: bytes) -> RawCommands:
            nonlocal taken_from
            queue = of_key.get(key, "")
            if queue not in self._takes or not self.may_wait or not has_slot():
                return ()
            taken_from = queue
            return self._takes[queue]

        try:
            changed = await self._hearing.until_changed(self._listening, [*of_key], ends_at, take)
        except Unavailable:
            if taken_from:
                self._brokers[taken_from].cut_off.add(taken_from)
            raise
        if changed.asked is None:
            return Heard([of_key[key] for key in changed.keys])
        key, replies = changed.asked
        return await self._taken(of_key[key], replies, {of_key[each] for each in changed.keys} - {of_key[key]})

    async def _taken(self, queue: str, replies: Sequence[Any], others: Collection[str]) -> Heard:
        """What Redis answered to the commands of `_takes`. If it refused them, the script finds out why, and the log says so."""
        payload, suspects = replies if len(replies) == len(self._takes[queue]) else (None, 0)
        if isinstance(payload, Exception):
            return Heard([*others, queue])
        if payload is not None and len(payload) > self._broker.guard.huge_bytes:
            await self._alone[queue].bury_huge()
            return Heard([*others, queue])
        return Heard(others, queue, payload, bool(suspects))

    async def bury_cut_off(self) -> None:
        """Bury what is huge in the lists into which something was being taken when the connection broke."""
        for queue, its in self._brokers.items():
            if queue in its.cut_off and queue not in self.waits:
                await self._alone[queue].bury_huge()
                its.cut_off.discard(queue)


def _told(queue: str, broker: RedisBroker, capsule: Capsule, limit: tuple[str, LimitSpec] | None) -> tuple[object, ...]:
    """What the script is told of a queue; see there."""
    weight = 0 if capsule.strict else capsule.weights[queue]
    name, spec = ("", b"") if limit is None else (limit[0], pack(limit[1].stored()))
    return (weight, broker.registry_entry(queue), broker.dialect.fetched_from, *broker.around_dead(queue), name, spec)
