"""Limits over the fleet, as Redis keeps them: who may start, who is parked, and the upkeep that any worker does for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from trioworkers.broker.redis.connection import Connection
from trioworkers.broker.redis.scripts import ENDS, script
from trioworkers.exits import Effect
from trioworkers.wire.keys import Keys
from trioworkers.wire.limit_spec import LimitSpec
from trioworkers.wire.packing import pack, unpack

ADMIT = script(
    __file__,
    "admit",
    keys=("lease", "list", "holds", "last_admission"),
    args=("admission", "ours", "own", "declared_limits", "queue", "queue_key", "push", "candidates", "*payloads"),
    preludes=ENDS,
)
TEND = script(
    __file__,
    "tend",
    keys=("limits", "repairs", "unread"),
    args=("own", "started", "work", "only_due", "cursor", "forgotten_after_s"),
    preludes=ENDS,
)

FORGOTTEN_AFTER_S = 600
"""A limit that no live worker declares holds nobody back any more after so long."""

START, PARKED, GONE = 1, 0, -1

Declared = Mapping[str, LimitSpec]
"""What our code says of limits, by their names."""


@attrs.frozen
class Candidate:
    """A fetched job that needs permits of `limits`. `member`: unique for this attempt. `expires_s`: epoch seconds; `on_expiry`: if it never starts.

    `goes_back`: at that time it is not forgotten, but goes back to its queue, for a worker to end it.
    """

    payload: bytes
    member: str
    jid: str
    limits: tuple[str, ...]
    expires_s: float | None = None
    on_expiry: tuple[Effect, ...] = ()
    goes_back: bool = False


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
    connection: Connection, at: AdmissionKeys, number: int, declared: Declared, batch: Sequence[Candidate]
) -> list[int | str]:
    """Ask for each of `batch` whether it may start: START, PARKED, GONE (not ours any more), or what is wrong with its limits' keys.

    May be repeated with the same number and batch after a lost reply.
    """
    entries = [(c.member, c.jid, c.limits, c.expires_s or False, c.on_expiry, int(c.goes_back)) for c in batch]
    args: list[Any] = [number, at.lease, at.own, pack(_stored(declared)), at.queue, at.queue_key, at.put_back_with]
    args += [pack(entries), *(c.payload for c in batch)]
    reply = await connection.run(ADMIT, [at.lease_key, at.in_progress, at.holds, at.last_admission], args)
    return list(unpack(reply))


def _stored(declared: Declared) -> list[tuple[str, tuple[int, float, float, float, int]]]:
    return [(name, spec.stored()) for name, spec in declared.items()]


@attrs.frozen
class Round:
    """What a worker brings to a round of upkeep: its limits, since when it has them (as it was told before), how far it has walked over what is parked.

    `lost`: parked payloads of which nothing is known any more, each with its queue's key and how to push to the end that is fetched. `ended`: what was
    buried unread, with what follows of that. `only_due`: a short round, just for those at whom it is time.
    """

    declared: Declared = attrs.field(factory=dict)
    since: str = ""
    cursor: int = 0
    lost: Sequence[tuple[bytes, str, str]] = ()
    ended: Sequence[tuple[bytes, Sequence[Effect]]] = ()
    only_due: bool = False


@attrs.frozen
class Tended:
    """What the upkeep did: parked jobs woken, effects that still can't be written, limits forgotten; and what the next round is to bring.

    `next_in_s`: when who waits is to be looked at again; None if nobody does. `lost`: parked payloads of which nothing is known; `put_back`: how many of those of the round
    before are in their queues again. `unread`: what is known of
    payloads that were buried unread, see `exits.on_unread_exit`.
    """

    woken: int = 0
    repairs: int = 0
    forgotten: Sequence[str] = ()
    since: str = ""
    next_in_s: float | None = None
    cursor: int = 0
    lost: Sequence[bytes] = ()
    unread: Sequence[bytes] = ()
    put_back: int = 0


async def tend(connection: Connection, keys: Keys, round_: Round) -> Tended:
    """One round of upkeep, in which the fleet is told of our limits. Any worker may do it at any time."""
    work = pack((_stored(round_.declared), round_.lost, round_.ended))
    args = [keys.own, round_.since, work, int(round_.only_due), round_.cursor, FORGOTTEN_AFTER_S]
    names = [keys.limits, keys.repairs, keys.unread]
    since, woken, repairs, next_ms, cursor, forgotten, lost, unread, put_back = await connection.run(TEND, names, args)
    return Tended(
        woken,
        repairs,
        [name.decode(errors="replace") for name in forgotten],
        since.decode(),
        None if next_ms < 0 else next_ms / 1000,
        cursor,
        lost,
        unread,
        put_back,
    )
