"""Fetches large payloads without showing them to Lua, which would cost Redis more than all the rest of what it does for such a job.

Only a script can look at a payload before it is sent to us. But a command can move one without sending it, if Redis is told not to answer, and what a list weighs Redis knows without
reading it. So as many are moved as should weigh less than what counts as large for one; a script before and one after it see to it that we may, and that they do. Only then they are read.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import trio

from trioworkers.broker.contract import LARGE_BYTES, Fetched
from trioworkers.broker.redis.scripts import script
from trioworkers.errors import BrokerError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trioworkers.broker.moves import RedisBroker
    from trioworkers.broker.redis.connection import Connection

FETCH_LARGE = script(
    __file__,
    "fetch_large",
    keys=("lease", "list", "queue", "mark", "crashes", "cancelled"),
    args=("number", "ours", "fetch_end", "max_bytes", "step"),
)
FETCH_LARGE_FROM_BYTES = 20_000
"""On the average. With smaller ones what Redis saves we pay, for the words of all the commands."""
AT_ONCE_BYTES = LARGE_BYTES * 3 // 4
"""So much is moved at once, by what those before weighed: they vary."""
WORTH_FROM_BYTES = 32_000
"""Less is fetched as cheaply by a script."""
LONGEST_LIST = 4000
"""To weigh a longer list takes more than it saves."""
SKIPPED = 100
"""So many fetches go the ordinary way after one that weighed too much, or that Redis didn't take."""


class LargeFetches:
    """The fetches of one queue over one connection that are made so. They say by themselves when it is worth it."""

    def __init__(self, broker: RedisBroker, connection: Connection, queue: str) -> None:
        self._connection = connection
        self._holder = broker.holder
        self._queue, self._list = broker.keys.queue(queue), broker.in_progress(queue)
        keys, process_id = broker.keys, broker.holder.process_id
        self._mark = keys.last_fetch(queue, process_id)
        self._names = [
            keys.lease(process_id),
            self._list,
            self._queue,
            self._mark,
            keys.crashes,
            keys.cancelled_batches,
        ]
        self._end = broker.dialect.fetched_from
        self._name = f"fetch from {queue}"
        self._mean = 0
        self._skip = 0
        self._number = 0
        self._life = secrets.token_hex(4)  # who had our process id before us has left marks, too

    def saw(self, payloads: Sequence[bytes], limit: int) -> None:
        """What the last fetch has brought. If it was all that was there we won't move many soon."""
        if self._skip:
            self._skip -= 1
        is_all = len(payloads) < min(limit, 4)
        self._mean = 0 if is_all or not payloads else sum(map(len, payloads)) // len(payloads)

    def count(self, limit: int) -> int:
        """How many to fetch so; 0: none."""
        if self._mean < FETCH_LARGE_FROM_BYTES or self._skip:
            return 0
        count = min(limit, min(AT_ONCE_BYTES, self._connection.link.pace.bytes) // self._mean)
        return count if count * self._mean >= WORTH_FROM_BYTES else 0

    async def fetch(self, count: int) -> Fetched | None:
        """Move up to `count` payloads into our in-progress list; None: none were moved, they are to be fetched by the script.

        Raises as `Connection.run`; then there may be strays. Not cancelled between moving and reading them, each of which the reply timeout bounds.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        with trio.CancelScope(shield=True):
            fetched = await self._fetch(count)
        return fetched  # noqa: RET504 - mypy takes a scope for one that may end its block

    async def _fetch(self, count: int) -> Fetched | None:
        self._number += 1
        number = f"{self._number}:{self._life}"
        args = [number, self._holder.lease, self._end, LARGE_BYTES]
        lmove = (b"LMOVE", (self._queue, self._list, self._end, b"LEFT"))
        answer = await self._connection.run_unanswered(
            FETCH_LARGE, self._names, ([*args, "before"], [*args, "after"]), [lmove] * count, (b"GET", (self._mark,))
        )
        moved, suspects, length = _read(answer, number)
        if moved is None:
            self._skip = SKIPPED
            if suspects:
                raise Unavailable("payloads that weigh too much lie in our list")
            return None
        if length > LONGEST_LIST:
            self._skip = SKIPPED
        payloads = await self._moved(moved, answer) if moved else []
        self.saw(payloads, count)
        return Fetched(payloads, suspects=bool(suspects))

    async def _moved(self, count: int, answer: object) -> list[bytes]:
        asked_at = trio.current_time()
        pace = self._connection.link.pace
        try:
            payloads, there = await self._connection.execute_all(
                self._name, (b"LRANGE", (self._list, 0, count - 1)), (b"GETDEL", (self._mark,))
            )
        except BrokerError as error:
            pace.lost(error, count * self._mean)
            raise
        if there != answer or len(payloads) != count:
            raise Unavailable("our lease ended while we fetched")
        if count > 1:
            pace.took(sum(map(len, payloads)), trio.current_time() - asked_at)
        oldest_first: list[bytes] = payloads[::-1]
        return oldest_first


def _read(answer: object, number: str) -> tuple[int | None, int, int]:
    """What the mark says of this fetch: how many were moved, who is suspected, how long the list is; or None, how many were left there, 0."""
    words = answer.split() if isinstance(answer, bytes) else []
    if not words or words[0] != number.encode():
        return None, 0, 0  # nothing was done
    try:
        if words[1] == b"-":
            return None, int(words[2]), 0
        return int(words[1]), int(words[2]), int(words[3])
    except (ValueError, IndexError):  # somebody has written there
        return None, 1, 0
