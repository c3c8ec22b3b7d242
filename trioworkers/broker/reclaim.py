"""Reclaims: what a dead worker had goes back to its queue, and its jobs are charged with that; who of them is kept apart."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress

from trioworkers.broker.contract import MAX_CRASHES_IN_COMPANY
from trioworkers.broker.in_progress import InProgress
from trioworkers.broker.redis.scripts import ENDS, script
from trioworkers.errors import Refused
from trioworkers.exits import on_exit, on_move
from trioworkers.wire.numbers import count_in
from trioworkers.wire.own_record import is_ours_alone
from trioworkers.wire.packing import pack

logger = logging.getLogger("trioworkers")

FORGET = script(
    __file__,
    "forget",
    keys=("lease", "list", "registry", "suspects", "holds", "drained"),
    args=("own", "strike", "is_shared"),
    preludes=(*ENDS, "drained"),
)
CHARGE = script(__file__, "charge", keys=("crashes", "lease", "suspects"), args=("ours", "keep_s", "times", "*jids"))
RECLAIM = script(
    __file__,
    "reclaim",
    keys=("lease", "list", "queue", "crashes", "dead", "holds", "drained", "last_call"),
    args=("expected_holder", "work", "push", "in_list", "own", "number", "is_shared", "*payloads"),
    preludes=(*ENDS, "late", "drained"),
)
RECLAIM_HUGE = script(
    __file__,
    "reclaim_huge",
    keys=("lease", "list", "queue", "crashes", "dead", "drained", "unread", "last_call", "suspects"),
    args=("expected_holder", "huge_bytes", "push", "before", "after", "most_crashes", "is_shared", "number"),
    preludes=("send", "unread", "late", "drained"),
)
CRASHES_KEPT_S = 3 * 24 * 3600
ALONE, TOGETHER = "alone", "together"
CHARGED = b"charged"
"""Noted beside them, by `charge.lua`."""


class Reclaims(InProgress):
    """See the module."""

    async def peek(self, process_id: str, queue: str, limit: int) -> list[bytes]:
        """The newest payloads in a worker's in-progress list, up to `limit`, or fewer if they are large.

        Those that no worker would run are given back by Redis itself, unread.
        """
        key = self.keys.in_progress(queue, process_id)
        most = self.guard.huge_bytes
        if key in self.too_slow or _way_back(key) in self.too_slow:
            most = min(most, self.connection.link.pace.carries)
            await self._reclaim_huge(process_id, queue, most)
        _, payloads, huge = await self._page("peek", key, 0, limit, huge_bytes=most)
        while huge and await self._reclaim_huge(process_id, queue, most):
            _, payloads, huge = await self._page("peek", key, 0, limit, huge_bytes=most)
        return payloads

    async def _reclaim_huge(self, process_id: str, queue: str, most: int) -> bool:
        """Whether there was one that could be moved."""
        keys, own = self.keys, process_id == self.holder.process_id
        names = [
            keys.lease(process_id),
            keys.in_progress(queue, process_id),
            keys.queue(queue),
            keys.crashes,
            keys.dead,
        ]
        names += [keys.drained(process_id), keys.unread, keys.last_call(process_id), keys.suspects(process_id)]
        args: list[str | bytes | int] = [
            self.holder.lease if own else "",
            most,
            self.dialect.put_back_with,
        ]
        args += [*self.around_dead(queue), MAX_CRASHES_IN_COMPANY, _is_shared(process_id), self.holder.next_call()]
        found = await self.connection.run(RECLAIM_HUGE, names, args)
        for size, is_buried in zip(found[::2], found[1::2], strict=True):
            where = "to dead, because several workers died with it" if is_buried else "back to its queue as it came"
            text = "a payload of %d bytes that worker %s, which died, had from %s, too large to be read, goes %s"
            logger.warning(text, size, process_id, queue, where)
        return bool(found)

    async def reclaim(
        self, process_id: str, queue: str, entries: Sequence[tuple[bytes, str, int, bytes | None]]
    ) -> tuple[int, str]:
        """Give payloads of a dead worker's list, newest first, back to their queue, charging their jobs with its death.

        `entries`: (payload, jid, deaths that it is charged with or `SUSPECTED`, payload for the dead set or None). Returns `(moved, error)`; -1 if it is alive after all; -2 if
        all of its own was taken before, and what is there now is another program's.
        """
        keys = self.keys
        holder = self.holder.lease if process_id == self.holder.process_id else ""
        work: list[tuple[object, ...]] = []
        payloads: list[bytes] = []
        for payload, jid, charge, buried in entries:
            payloads.append(payload)
            number = len(payloads)
            if buried is None:
                work.append((number, jid, charge, False, on_move(payload)))
            else:
                payloads.append(buried)
                work.append((number, jid, charge, len(payloads), on_exit(buried, "dead")))
        names = [
            keys.lease(process_id),
            keys.in_progress(queue, process_id),
            keys.queue(queue),
            keys.crashes,
            keys.dead,
            keys.holds(queue, process_id),
            keys.drained(process_id),
            keys.last_call(process_id),
        ]
        args: list[str | bytes | int] = [holder, pack(work), self.dialect.put_back_with]
        args += [int(self.dialect.keeps_records), keys.own, self.holder.next_call(), _is_shared(process_id), *payloads]
        way_back = _way_back(keys.in_progress(queue, process_id))
        with self.too_slow.watching(way_back, sum(map(len, payloads))):
            moved, *error = await self.connection.run(RECLAIM, names, args)
        return moved, error[0].decode(errors="replace") if error else ""

    async def held_by(self, process_id: str, queue: str) -> int:
        """How many payloads lie in a worker's in-progress list."""
        return await self.connection.commands("held by another").llen(self.keys.in_progress(queue, process_id))

    async def forget(self, process_id: str, queue: str, *, strike: bool) -> None:
        """Note that a dead worker's list is empty, so that what lies there from now on is another program's; `strike`: it leaves the registry, too."""
        keys = self.keys
        names = [keys.lease(process_id), keys.in_progress(queue, process_id), keys.in_progress_lists]
        names += [keys.suspects(process_id), keys.holds(queue, process_id)]
        names.append(keys.drained(process_id))
        await self.connection.run(FORGET, names, [keys.own, int(strike), _is_shared(process_id)])

    async def crashes(self, jids: Sequence[str]) -> Mapping[str, int]:
        """The crash counts of these jobs, how many workers died under each; those without one are left out."""
        if not jids:
            return {}
        key = self.keys.crashes
        try:
            counts = await self.connection.commands("crashes").hmget(key, list(jids))
        except Refused:  # of the wrong type, as the log says: then nobody is suspected, and jobs go on
            return {}
        return {jid: _count(jid, text) for jid, text in zip(jids, counts, strict=True) if text is not None}

    async def charge(self, jids: Sequence[str], times: int = 1) -> None:
        """Charge jobs as if we had died under them, which counts `times` times. Only the first call counts; who takes over what we have charges nobody any more.

        Without our lease nothing is done: then they may have charged already.
        """
        if jids:
            names = [self.keys.crashes, self._lease_key, self.keys.suspects(self.holder.process_id)]
            await self.connection.run(CHARGE, names, [self.holder.lease, CRASHES_KEPT_S, times, *jids])

    async def note_start(self, jid: str, *, alone: bool) -> None:
        """Note that a suspect starts here now: if we die, none is charged that isn't noted; and nobody but who is `alone`, if there is such."""
        key = self.keys.suspects(self.holder.process_id)
        with suppress(Refused):  # of the wrong type, or Redis is full, as the log says: it runs all the same
            await self.connection.commands("note a start").hset(key, jid, ALONE if alone else TOGETHER)

    async def started(self, process_id: str) -> Mapping[str, bool] | None:
        """The suspects that a worker had started when it was last heard of, each with whether it was alone. None: it has charged its end itself."""
        try:
            noted = await self.connection.commands("what has started").hgetall(self.keys.suspects(process_id))
        except Refused:  # as above: then nobody is charged
            return {}
        if noted.get(CHARGED) == CHARGED:
            return None
        return {jid.decode(errors="replace"): how == ALONE.encode() for jid, how in noted.items()}


def _is_shared(process_id: str) -> int:
    """1 if other programs may have this process id, too.

    Where none can, what comes to the list late was moved there for our dead worker: by a wait that it had sent, and that reached Redis after the list
    was emptied.
    """
    return int(not is_ours_alone(process_id))


def _way_back(key: str) -> str:
    """What a list's payloads are called on their way to Redis, which may be slower than the way from there."""
    return f"{key} back"


def _count(jid: str, text: bytes) -> int:
    count = count_in(text)
    if count is None:
        logger.warning("the crash count of job %s is no number, so it starts again: %.100r", jid, text)
    return count or 0
