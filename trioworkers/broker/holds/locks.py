"""Locks of unique jobs, as Redis keeps them: which of those that were fetched may start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import attrs

from trioworkers.broker.redis.connection import Connection
from trioworkers.broker.redis.scripts import ENDS, script
from trioworkers.exits import Effect
from trioworkers.wire.packing import pack, unpack_bytes

CLAIM_LOCKS = script(
    __file__,
    "claim_locks",
    keys=("lease", "list", "last_claim"),
    args=("claim", "ours", "own", "queue", "queue_key", "push", "queues", "work", "*payloads"),
    preludes=ENDS,
)

What = Literal["held", "started", "release", "skip", "replace", "latest", "throttle"]


@attrs.frozen
class Claim:
    """A fetched job that needs a lock: see `claim_locks.lua`. `named`: its payload with the lock's name, if it came without; `on_replaced`: what its replacement lets go."""

    payload: bytes
    jid: str
    key: str
    what: What
    named: bytes | None = None
    on_replaced: tuple[Effect, ...] = ()
    spell_ms: int = 0


@attrs.frozen
class Answer:
    """What is to become of it.

    It may "start"; it is "kept" as its lock's next, or "gone"; "swapped" for another `payload`, which is to be asked for; an "other" one (`jid`) has
    its lock, or it is "skipped" for that; or nobody can tell, for `problem`.
    """

    how: Literal["start", "kept", "gone", "swapped", "other", "skipped", "problem"]
    payload: bytes = b""
    jid: str = ""
    problem: str = ""


@attrs.frozen
class ClaimKeys:
    """Where one queue's claims take place: of a worker with `lease` (its key and value)."""

    lease_key: str
    lease: str
    in_progress: str
    last_claim: str
    own: str
    queue: str
    queue_key: str
    push: str
    queues: str


START, KEPT, GONE = Answer("start"), Answer("kept"), Answer("gone")


async def claim(connection: Connection, at: ClaimKeys, number: int, batch: Sequence[Claim]) -> list[Answer]:
    """Hold jobs to their locks. May be repeated with the same number and batch after a lost reply."""
    work = [(c.jid, c.key, c.what, c.named or False, c.on_replaced, c.spell_ms) for c in batch]
    args: list[Any] = [number, at.lease, at.own, at.queue, at.queue_key, at.push, at.queues, pack(work)]
    args += [c.payload for c in batch]
    reply = await connection.run(CLAIM_LOCKS, [at.lease_key, at.in_progress, at.last_claim], args)
    return [_answer(each) for each in unpack_bytes(reply)]


def _answer(decision: Any) -> Answer:
    match decision:
        case 1:
            return START
        case 0:
            return KEPT
        case -1:
            return GONE
        case [b"swapped", payload]:
            return Answer("swapped", payload=payload)
        case [how, jid]:
            return Answer("other" if how == b"other" else "skipped", jid=jid.decode(errors="replace"))
    return Answer("problem", problem=decision.decode(errors="replace"))
