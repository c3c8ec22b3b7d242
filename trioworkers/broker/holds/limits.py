"""Limits over the fleet, as Redis keeps them: who may start, who is parked, and the upkeep that any worker does for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from trioworkers.broker.redis.connection import Connection
from trioworkers.broker.redis.scripts import ENDS, script
from trioworkers.exits import Effect
from trioworkers.wire.packing import pack, unpack

ADMIT = script(
    __file__,
    "admit",
    keys=("lease", "list", "holds", "last_admission"),
    args=("admission", "ours", "own", "declared_limits", "queue", "queue_key", "push", "candidates", "*payloads"),
    preludes=ENDS,
)
DECLARE = script(__file__, "declare", keys=("limits",), args=("started", "work"))
TEND = script(__file__, "tend", keys=("limits", "repairs"), args=("own", "forgotten_after_s"), preludes=ENDS)

FORGOTTEN_AFTER_S = 600
"""A limit that no live worker declares holds nobody back any more after so long."""

START, PARKED, GONE = 1, 0, -1


@attrs.frozen
class Candidate:
    """A fetched job that needs permits of `limits`. `member`: unique for this attempt. `expires_s`: epoch seconds; `on_expiry`: if it never starts."""

    payload: bytes
    member: str
    jid: str
    limits: tuple[str, ...]
    expires_s: float | None = None
    on_expiry: tuple[Effect, ...] = ()


@attrs.frozen
class AdmissionKeys:
    """Where one queue's admissions take place: of a worker with `lease` (its key and value)."""

    lease_key: str
    lease: str
    in_progress: str
    holds: str
    last_admission: str
    own: str
    queue: str
    queue_key: str
    put_back_with: str


async def admit(
    connection: Connection, at: AdmissionKeys, number: int, declared: Mapping[str, int], batch: Sequence[Candidate]
) -> list[int | str]:
    """Ask for each of `batch` whether it may start: START, PARKED, GONE (not ours any more), or what is wrong with its limits' keys.

    May be repeated with the same number and batch after a lost reply.
    """
    entries = [(c.member, c.jid, c.limits, c.expires_s or False, c.on_expiry) for c in batch]
    args: list[Any] = [number, at.lease, at.own, pack(list(declared.items())), at.queue, at.queue_key, at.put_back_with]
    args += [pack(entries), *(c.payload for c in batch)]
    reply = await connection.run(ADMIT, [at.lease_key, at.in_progress, at.holds, at.last_admission], args)
    return list(unpack(reply))


async def declare(connection: Connection, limits_key: str, limits: Mapping[str, int], since: str) -> str:
    """Tell the fleet of our limits; returns since when we have them, to be told the next time."""
    reply: bytes = await connection.run(DECLARE, [limits_key], [since, pack(list(limits.items()))])
    return reply.decode()


@attrs.frozen
class Tended:
    """What the upkeep did: parked jobs woken, effects that still can't be written, limits forgotten."""

    woken: int
    repairs: int
    forgotten: Sequence[str]


async def tend(connection: Connection, limits_key: str, repairs_key: str, own: str) -> Tended:
    """One round of upkeep. Any worker may do it at any time."""
    woken, repairs, *names = await connection.run(TEND, [limits_key, repairs_key], [own, FORGOTTEN_AFTER_S])
    return Tended(woken, repairs, [name.decode(errors="replace") for name in names])
