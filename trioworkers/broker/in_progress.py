"""InProgress: what a worker's list holds; what is too much there goes back, and at the end all of it."""

from __future__ import annotations

import hashlib
import logging
import math
from collections import Counter, deque
from collections.abc import Collection, Iterable, Sequence
from functools import partial
from typing import Any

import trio

from trioworkers.broker.by_weight import by_weight
from trioworkers.broker.contract import PAGE_BYTES, Listed
from trioworkers.broker.digest import Digest, digest_of
from trioworkers.broker.owner import Owner
from trioworkers.broker.redis.scripts import ENDS, script
from trioworkers.broker.too_slow import DOESNT_CARRY, again_if_it_broke
from trioworkers.departures import Permit
from trioworkers.errors import BrokerError
from trioworkers.wire.packing import pack

logger = logging.getLogger("trioworkers")

MOST_PAGES = 20
"""So many are asked for at once. Redis serves others between them."""

COUNT = script(__file__, "count", keys=("list",), args=("are_digests", "*payloads"), preludes=("digests",))
LENGTHS = script(__file__, "lengths", keys=("*lists",))
PAGE = script(
    __file__,
    "page",
    keys=("list",),
    args=("expected", "first", "limit", "max_bytes", "sent_bytes", "huge_bytes", "digest_bytes"),
    preludes=("pages", "digests"),
)
PUT_ASIDE = script(
    __file__,
    "put_aside",
    keys=("lease", "list", "dead", "unread", "last_call"),
    args=("ours", "more_than", "before", "after", "number", "*known"),
    preludes=("send", "unread", "late"),
)
PUT_BACK = script(
    __file__,
    "put_back",
    keys=("lease", "list", "queue", "holds", "last_call"),
    args=("ours", "push", "own", "running_members", "number", "are_digests", "*payloads"),
    preludes=(*ENDS, "late", "digests"),
)
RELEASE = script(
    __file__,
    "release",
    keys=("lease", "list", "queue", "holds"),
    args=("ours", "limit", "fetch_end", "max_bytes", "own"),
    preludes=ENDS,
)


class InProgress(Owner):
    """See the module."""

    async def audit(self, queue: str, expected: int, limit: int, known: Collection[bytes] = ()) -> Listed | None:
        """The payloads in our list, up to about `limit`, if it is longer or shorter than `expected`; None if it is just as long.

        Those `known` are not held in memory a second time. Over a link that breaks again and again, of what it surely carries only digests come (see
        `digest.resolved`). What may be too large comes as it is, as that shows whether it can.
        """
        if self.in_progress(queue) in self.too_slow:
            await self._put_aside(queue, known)
        held = {payload: payload for payload in known}
        found: Counter[bytes] = Counter()
        read = partial(self._page, "audit", self.in_progress(queue), by_digest=True)
        length, page, _ = await read(0, limit, expected)
        if length == expected:
            return None
        at_once = len(page) >= length
        while page:
            found.update(held.get(payload, payload) for payload in page)
            if at_once or (seen := found.total()) >= limit:
                break
            _, page, _ = await again_if_it_broke(partial(read, seen, limit - seen))
        self.too_slow.forget(self.in_progress(queue))
        return Listed(found, at_once)

    async def _put_aside(self, queue: str, known: Collection[bytes]) -> None:
        """Bury the largest of our list that doesn't run: what the link can't carry would keep us from all others."""
        more_than = self.connection.link.pace.carries
        runs = [hashlib.sha1(each, usedforsecurity=False).hexdigest() for each in known if len(each) > more_than]
        names = [self._lease_key, self.in_progress(queue), self.keys.dead, self.keys.unread]
        names.append(self.keys.last_call(self.holder.process_id))
        args = [self.holder.lease, more_than, *self.around_dead(queue), self.holder.next_call(), *runs]
        size = await self.connection.run(PUT_ASIDE, names, args)
        if size:
            text = "a payload of %d bytes on queue %s goes to the dead set unread: %s"
            logger.error(text, size, queue, DOESNT_CARRY)

    async def count(self, queue: str, payloads: Iterable[bytes]) -> Counter[bytes]:
        """How often each of these lies in our list just now. `payloads`: as `audit` found them."""
        found: Counter[bytes] = Counter()
        wanted = deque(payloads)
        while wanted:
            for count in await again_if_it_broke(partial(self._counts, queue, wanted)):
                found[wanted.popleft()] = count
        return found

    async def _counts(self, queue: str, payloads: Collection[bytes]) -> list[int]:
        """Of the first of these, as many as go at once."""
        words, are_digests = self._words(payloads)
        page = next(by_weight(words, len, self.at_once_bytes))
        with self.too_slow.watching(COUNT.name, sum(map(len, page))):
            counts: list[int] = await self.connection.run(COUNT, [self.in_progress(queue)], [int(are_digests), *page])
        return counts

    def _words(self, payloads: Collection[bytes]) -> tuple[Iterable[bytes], bool]:
        """What is sent for payloads that lie in our list, and whether that is their digests: of some we may have nothing else."""
        are_digests = self.connection.link.pace.breaks_again or any(isinstance(each, Digest) for each in payloads)
        return map(digest_of, payloads) if are_digests else payloads, are_digests

    async def lengths(self, lists: Sequence[str]) -> list[int]:
        """How long these lists are; -1 for a key that is something else."""
        lengths: list[int] = await self.connection.run(LENGTHS, [*lists], [])
        return lengths

    async def put_back(self, queue: str, payloads: Sequence[bytes], running: Sequence[Permit] = ()) -> int:
        """Strays of our list, newest first, back to the fetch end of their queue. Returns how many were still there, or where a reply was lost may have been.

        `running`: what the attempts hold that do run, and have it again if somebody took it away; what others hold in our name is let go.
        """
        keys = [self._lease_key, self.in_progress(queue), self.keys.queue(queue), self.holds(queue)]
        keys.append(self.keys.last_call(self.holder.process_id))
        members = [(permit.member, permit.jid, permit.limits, int(permit.within)) for permit in running]
        before = [self.holder.lease, self.dialect.put_back_with, self.keys.own, pack(members)]
        moved = 0
        words, are_digests = self._words(payloads)
        for page in [*by_weight(words, len, self.at_once_bytes)] or [[]]:  # without strays, too, it says what runs
            args = [*before, self.holder.next_call(), int(are_digests), *page]
            # Tried again it is the same call, which Redis carries out once.
            of_these = await again_if_it_broke(partial(self._put_back, keys, args, sum(map(len, page))))
            moved += len(page) if of_these is None else of_these
        return moved

    async def _put_back(self, keys: list[str], args: list[Any], size: int) -> int | None:
        with self.too_slow.watching(PUT_BACK.name, size):
            moved: int | None = await self.connection.run(PUT_BACK, keys, args)
        return moved

    async def release(self, queue: str, limit: int = 500) -> int:
        """Everything that is left in our list back to the fetch end of `queue`. Returns how many payloads that were."""
        keys = [self._lease_key, self.in_progress(queue), self.keys.queue(queue), self.holds(queue)]
        args = [self.holder.lease, limit, self.dialect.fetched_from, PAGE_BYTES, self.keys.own]
        total: int
        total, left = await self.connection.run(RELEASE, keys, args)
        page = (b"EVALSHA", (RELEASE.sha, len(keys), *keys, *args))
        # Many in one round trip: who is told to stop has little time, and on a busy machine each takes long.
        while left:
            pages = await self.connection.execute_many("release", [page] * min(MOST_PAGES, math.ceil(left / limit)))
            for reply in pages:
                if isinstance(reply, BrokerError):
                    raise reply
                moved, left = reply
                total += moved
        return total

    async def _page(
        self,
        operation: str,
        key: str,
        start: int,
        limit: int,
        expected: int = -1,
        huge_bytes: int | None = None,
        *,
        by_digest: bool = False,
    ) -> tuple[int, list[bytes], int]:
        size, asked_at, pace = self.at_once_bytes, trio.current_time(), self.connection.link.pace
        digest_bytes = pace.carries if by_digest and pace.breaks_again else 0
        max_bytes = PAGE_BYTES if digest_bytes else size
        args = [expected, start, limit, max_bytes, size, "" if huge_bytes is None else huge_bytes, digest_bytes]
        with self.too_slow.watching(key, size, start):
            length, payloads, huge = await self.connection.run(PAGE, [key], args, operation)
        found = [Digest(each[0]) if isinstance(each, list) else each for each in payloads] if digest_bytes else payloads
        pace.took(sum(map(len, found)), trio.current_time() - asked_at)
        return length, found, huge
