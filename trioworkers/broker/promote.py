"""Promotes: what is due goes into its queue; and what people want of a worker, which it hears with that."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from typing import Any

from trioworkers.broker.contract import Due, DueSet
from trioworkers.broker.holds.ticks import DueEntry
from trioworkers.broker.owner import Owner
from trioworkers.broker.redis.scripts import ENDS, script
from trioworkers.exits import on_exit, on_move
from trioworkers.wire.packing import pack

logger = logging.getLogger("trioworkers")

DUE = script(
    __file__,
    "due",
    keys=("retry", "schedule", "control", "paused_queues", "paused_classes", "queues", "dead", "*cron"),
    args=("limit", "max_bytes", "huge_bytes", "queue_prefix", "push", "own", "ticks", "look_there"),
    preludes=("send", "pages", "named"),
)
PROMOTE = script(
    __file__,
    "promote",
    keys=("due_set", "queues", "dead"),
    args=("work", "push", "in_list", "own", "*payloads"),
    preludes=(*ENDS, "move"),
)


class Promotes(Owner):
    """See the module."""

    _told: frozenset[bytes] | set[bytes] = frozenset()

    async def due(self, limit: int, ticks: int = 0, *, look: bool = True) -> Due:
        """Up to `limit` due payloads of each set, up to `ticks` periodic jobs that are due, and what people want. A lost reply loses the messages.

        `look`: whether to look which periodic jobs are due; else only if one has become due sooner than it was, within the last NEWS_S seconds.
        """
        keys = self.keys
        names = [keys.retry, keys.schedule, keys.control(self.holder.process_id), keys.paused, keys.paused_classes]
        names += [keys.queues, keys.dead, *([keys.cron, keys.cron_news] if ticks else [])]
        # Where what is dead lies in records only we write what waits: nothing huge.
        huge_bytes = math.inf if self.dialect.keeps_records else self.guard.huge_bytes
        if "due" in self.too_slow or "promote" in self.too_slow:  # what the link doesn't carry goes its way without us
            huge_bytes = min(huge_bytes, self.connection.link.pace.carries)
        args = [
            limit,
            self.at_once_bytes,
            huge_bytes,
            keys.queue(""),
            self.dialect.pushed_with,
            keys.own,
            ticks,
            int(look),
        ]
        with self.too_slow.watching("due", self.at_once_bytes):
            wait, retry, schedule, messages, *paused, problems, huge, entries, tick = await self.connection.run(
                DUE, names, args
            )
        self._say_huge(huge)
        queues, classes = (frozenset(name.decode(errors="replace") for name in members) for members in paused)
        self._tell(problems)
        now_s = float(entries[0]) if entries else 0.0
        due_entries = [DueEntry(*each) for each in zip(entries[1::3], entries[2::3], entries[3::3], strict=True)]
        wait_s = float(wait) if wait else None
        tick_in_s = float(tick) if tick else None
        return Due(retry, schedule, wait_s, (), messages, queues, classes, due_entries, now_s, tick_in_s)

    def _say_huge(self, found: Sequence[Any]) -> None:
        for size, queue in zip(found[::2], found[1::2], strict=True):
            where = (
                f"queue {queue.decode(errors='replace')}, as it came"
                if queue
                else "dead: it names no queue at its beginning or end"
            )
            logger.warning("a payload of %d bytes was due, but too large to be read: it went to %s", size, where)

    def _tell(self, problems: Sequence[bytes]) -> None:
        """Each once, as long as it lasts."""
        for problem in set(problems) - self._told:
            logger.warning("what is due, or what people want, can't be read: %s", problem.decode(errors="replace"))
        self._told = set(problems)

    async def reply(self, token: str, reply: bytes) -> None:
        """Lay down our reply to a control message; it stays for a minute."""
        key = self.keys.reply(token)
        await self.connection.commands("reply").set_for(key, reply, 60)

    async def promote(
        self, source: DueSet, entries: Sequence[tuple[bytes, str | None, bytes]]
    ) -> tuple[int, list[str]]:
        """Move due payloads: `(payload, queue, payload to enqueue)`, or where what is dead lies (then as that) if queue is None.

        What another worker moved first is passed over. Returns how many were moved, and errors of queues that can't take theirs.
        """
        keys = [self.keys.retry if source == "retry" else self.keys.schedule, self.keys.queues, self.keys.dead]
        work, payloads = self._promotions(entries)
        args = [pack(work), self.dialect.pushed_with, int(self.dialect.keeps_records), self.keys.own, *payloads]
        with self.too_slow.watching("promote", sum(map(len, payloads))):
            moved, *errors = await self.connection.run(PROMOTE, keys, args)
        return moved, [error.decode(errors="replace") for error in errors]

    def _promotions(
        self, entries: Iterable[tuple[bytes, str | None, bytes]]
    ) -> tuple[list[tuple[Any, ...]], list[bytes]]:
        """What the script calls work, and the payloads that it knows by their numbers."""
        work: list[tuple[Any, ...]] = []
        payloads: list[bytes] = []
        for payload, queue, renewed in entries:
            payloads.append(payload)
            number = len(payloads)
            if renewed != payload:  # what goes as it came is sent once
                payloads.append(renewed)
            if queue is None:
                work.append((number, False, "", len(payloads), on_exit(payload, "dead")))
            else:
                work.append((number, queue, self.keys.queue(queue), len(payloads), on_move(payload)))
        return work, payloads
