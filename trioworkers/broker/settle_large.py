"""Settles large payloads that only have to be forgotten. By `settle.lua` Lua would look at each byte of them, which costs Redis more than all the rest.

The commands that take them out can't ask first whether we may. So a script before them gives each list another name if we may, and one after them gives it back its own: where we
may not there is nothing to be found by that name. All of it is one MULTI: nobody else ever sees that name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trioworkers.broker.redis.scripts import script
from trioworkers.outcome import ACKNOWLEDGE
from trioworkers.wire.packing import unpack

if TYPE_CHECKING:
    from trioworkers.broker.contract import Settlement
    from trioworkers.broker.redis.connection import Connection

SETTLE_LARGE = script(
    __file__,
    "settle_large",
    keys=("lease", "last_settle", "processed_in_all", "processed_then", "*lists"),
    args=("group", "ours", "count", "step"),
    preludes=("fence",),
)
SETTLE_LARGE_FROM_BYTES = 8192
"""On the average. Of smaller ones a command for each costs more than it saves."""

SOME = -1
"""Stands for a place, with how many were not ours any more, in the answer to a group that was written already. Nobody knows which: the reply that said so is lost."""


def are_large(group: Sequence[Settlement]) -> bool:
    """Whether to settle a group in this way: all have succeeded, and nothing is to be sent or let go. The first one tells of most groups that they are not."""
    if not group or len(group[0].payload) < SETTLE_LARGE_FROM_BYTES:
        return False
    size = 0
    for _, payload, outcome, effects in group:
        if outcome is not ACKNOWLEDGE or effects:
            return False
        size += len(payload)
    return size >= SETTLE_LARGE_FROM_BYTES * len(group)


async def settle_large(
    connection: Connection, keys: Sequence[str], args: Sequence[Any], lists: Mapping[str, Iterable[bytes]]
) -> dict[int, str] | None:
    """Take these payloads out of their lists. Returns by place (or for SOME) what did not go through, as `settle`; None if that is to be done by `settle.lua`. Raises as `Connection.run`."""
    apart = [(name, f"{name}:apart") for name in lists]
    names = [*keys, *(name for pair in apart for name in pair)]
    commands = [(b"LREM", (to, -1, payload)) for name, to in apart for payload in lists[name]]
    args = [*args, len(commands)]
    replies = await connection.run_around(SETTLE_LARGE, names, ([*args, "before"], [*args, "after"]), commands)
    if replies is None:
        return None
    if replies[0] is not None:
        return {(index if index < 0 else index - 1): problem for index, problem in unpack(replies[0]) or () if index}
    return {place: "gone" for place, count in enumerate(replies[1:-1]) if count != 1}
