"""Limits over the fleet, for people: who holds them, who waits, and what they want instead of what the code says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import attrs

from trioworkers.broker.redis.connection import Connection
from trioworkers.broker.redis.scripts import ENDS, script
from trioworkers.errors import NotFound
from trioworkers.wire.keys import Keys
from trioworkers.wire.limit_spec import LimitSpec
from trioworkers.wire.numbers import count, seconds
from trioworkers.wire.packing import pack, unpack, unpack_bytes

LOOK = script(__file__, "limits", keys=("registry",), args=("own", "only", "most"), preludes=ENDS)
OVERRIDE = script(
    __file__, "override_limit", keys=("limits",), args=("own", "name", "wanted", "how", "close_s"), preludes=ENDS
)

MOST_COUNTED = 50_000
How = Literal["set", "close", "open", "reset"]


@attrs.frozen
class LimitState:
    """One limit as it is now. `code`: what the code says; `override`: what people want of it instead, of its numbers None where they say nothing.

    `held`: permits, or jobs in progress under a queue's; `kept`: permits kept for jobs that are next; `closed_until_s`: epoch seconds, inf until somebody
    opens it, None if it is open. `problem`: what is wrong with its keys.
    """

    name: str
    spec: LimitSpec
    code: LimitSpec | None
    override: tuple[int | None, float | None, int | None] | None
    held: int
    kept: int
    waiting: int
    closed_until_s: float | None
    problem: str = ""


@attrs.frozen
class Holder:
    """An attempt that has a permit."""

    limit: str
    jid: str
    process_id: str
    queue: str
    within: bool


@attrs.frozen
class Waiter:
    """A job that waits: parked, or `within` its slot."""

    limit: str
    jid: str
    queue: str
    since_s: float
    within: bool


@attrs.frozen
class LimitsNow:
    """What there is to know."""

    limits: Sequence[LimitState]
    holders: Sequence[Holder] = ()
    waiters: Sequence[Waiter] = ()


class FleetLimits:
    """The limits of one Redis database."""

    def __init__(self, connection: Connection, keys: Keys) -> None:
        self._connection = connection
        self._keys = keys

    async def look(self, only: str = "", most: int = 500) -> LimitsNow:
        """All limits, or `only` one and those by its arguments, with who holds and who waits; at most so many. Raises BrokerError."""
        reply = await self._connection.run(LOOK, [self._keys.in_progress_lists], [self._keys.own, only, most], "limits")
        states, holders, waiters = unpack(reply)
        return LimitsNow(
            sorted(map(_state, states), key=lambda state: state.name),
            [_holder(*each) for each in holders],
            [Waiter(name, jid, queue, float(moment), bool(within)) for name, moment, jid, queue, within in waiters],
        )

    async def parked_by_queue(self) -> Mapping[str, int] | None:
        """How many jobs of each queue are parked; None if that are too many to count. Raises BrokerError."""
        key, read = f"{self._keys.own}parked_jobs", self._connection.commands("limits")
        if await read.hlen(key) > MOST_COUNTED:
            return None
        counts: Counter[str] = Counter()
        for packed in (await read.hgetall(key)).values():
            queue = _queue_of_parked(packed)
            if queue is not None:
                counts[queue] += 1
        return counts

    async def override(
        self,
        name: str,
        how: How,
        *,
        concurrency: int | None = None,
        interval_s: float | None = None,
        burst: int | None = None,
        close_s: float = 0.0,
    ) -> None:
        """Have a limit be as people want it, at once, until they say otherwise. Raises NotFound, BrokerError."""
        wanted = pack((concurrency or False, interval_s or False, burst or False))
        args = [self._keys.own, name, wanted, how, close_s]
        if not await self._connection.run(OVERRIDE, [self._keys.limits], args, "limits"):
            known = ", ".join(state.name for state in (await self.look()).limits) or "none"
            raise NotFound(f"no limit is called {name}; there are: {known}")


def _queue_of_parked(packed: bytes) -> str | None:
    """The queue of one that is parked; None for what waits within its slot, or is none of ours."""
    try:
        # More: whether it goes back when its time is over; or what it holds, and as which member, while it waits within its slot.
        _, queue, _, _, _, _, _, *more = unpack_bytes(packed)
    except (ValueError, TypeError):
        return None
    return queue.decode(errors="replace") if isinstance(queue, bytes) and len(more) < 2 else None


def _state(found: Sequence[Any]) -> LimitState:
    name, concurrency, interval_s, burst, code, override, held, kept, waiting, closed, _, *problem = found
    return LimitState(
        str(name),
        LimitSpec(int(concurrency), float(interval_s), int(burst)),
        _code(code),
        _override(override),
        held,
        kept,
        waiting,
        None if closed == 0 else float("inf") if closed < 0 else float(closed),
        *map(str, problem),
    )


def _override(stored: Any) -> tuple[int | None, float | None, int | None] | None:
    """What people want, as it is stored; what somebody else has written is nothing."""
    try:
        concurrency, interval_s, burst, *_ = stored
    except (TypeError, ValueError):
        return None
    return count(concurrency) or None, seconds(interval_s) or None, count(burst) or None


def _code(stored: Any) -> LimitSpec | None:
    """What the code says, as it is stored; what somebody else has written is none."""
    try:
        concurrency, _, _, interval_s, burst, *_ = stored
    except (TypeError, ValueError):
        return None
    found = count(concurrency), seconds(interval_s), count(burst)
    return None if None in found else LimitSpec(*found)  # type: ignore[arg-type]


def _holder(name: str, member: str, jid: str, record: str) -> Holder:
    process_id, _, queue = record.partition(" ")
    return Holder(name, jid, process_id, queue.partition(" ")[0], within=" within-" in member)
