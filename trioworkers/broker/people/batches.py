"""Batches, for people: what there is, how far each is, and how one is cancelled."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import attrs
import trio

from trioworkers.broker.holds.batches import cancel_batch
from trioworkers.broker.people.operator_actions import Delete
from trioworkers.broker.people.running_jobs import cancel_all_running
from trioworkers.broker.people.session import Session
from trioworkers.broker.redis.connection import Connection
from trioworkers.wire.keys import Keys
from trioworkers.wire.membership import EVENTS
from trioworkers.wire.numbers import count_in, number_in
from trioworkers.wire.packing import unpack_bytes
from trioworkers.wire.places import Location

HOWS = ("succeeded", "dead", "discarded", "expired", "deleted", "purged", "replaced", "skipped", "lost")
GRAPH_LOOK_S = 2.0
"""A graph of a hundred thousand has as many fields and more, of which few may be of those that still wait."""
WAITING = 6
"""The record of a member that waits has as many parts, see graphs.lua; what others have written is taken for nothing."""
ROUNDS = 3
"""How often a cancellation looks for members: those that were fetched while it looked come back, or run."""


@attrs.frozen
class BatchState:
    """How far a batch is. `ended`: how many members ended how. `fired`: when callbacks were sent, by event. Times in epoch seconds."""

    id: str
    description: str
    is_sealed: bool
    created_s: float | None
    moved_s: float | None
    cancelled_s: float | None
    parent: str
    total: int
    pending: int
    ended: Mapping[str, int]
    fired: Mapping[str, float]

    @property
    def state(self) -> str:
        """In a word."""
        if "finished" in self.fired:
            return "succeeded" if "success" in self.fired else "dead members" if self.ended.get("dead") else "finished"
        return "cancelled" if self.cancelled_s is not None else "running" if self.is_sealed else "open"


async def batch_state(
    connection: Connection, keys: Keys, batch: str, moved_s: float | None = None
) -> BatchState | None:
    """How far a batch is; None if there is no such batch, or not any more. Raises BrokerError."""
    read = connection.commands("batches")
    fields = {name.decode(errors="replace"): value for name, value in (await read.hgetall(keys.batch(batch))).items()}
    if "state" not in fields:
        return None
    pending = await read.execute("SCARD", f"{keys.batch(batch)}:jids")
    return BatchState(
        batch,
        fields.get("description", b"").decode(errors="replace"),
        fields["state"] == b"sealed",
        number_in(fields.get("created")),
        moved_s,
        number_in(fields.get("cancelled")),
        fields.get("parent", b"").decode(errors="replace"),
        count_in(fields.get("total")) or 0,
        int(pending),
        {how: count for how in HOWS if (count := count_in(fields.get(how)))},
        {event: at for event in EVENTS if (at := number_in(fields.get(f"fired_{event}"))) is not None},
    )


async def batches(connection: Connection, keys: Keys) -> AsyncGenerator[BatchState, None]:
    """All batches, the one that moved last first. Those that are forgotten are taken from the index. Raises BrokerError."""
    read, start, length = connection.commands("batches"), 0, 100
    while True:
        page = await read.execute("ZRANGE", keys.batches, start, start + length - 1, "REV", "WITHSCORES")
        if page and not isinstance(page[0], bytes):  # pairs, in RESP3
            page = [each for pair in page for each in pair]
        found = list(zip(page[::2], page[1::2], strict=True))
        for name, score in found:
            batch = name.decode(errors="replace")
            state = await batch_state(connection, keys, batch, float(score))
            if state is None:
                await read.execute("ZREM", keys.batches, name)
                start -= 1
            else:
                yield state
        if len(found) < length:
            return
        start += length


async def inner_batches(connection: Connection, keys: Keys, batch: str) -> list[str]:
    """The batches that lie in a batch and aren't over."""
    read, cursor, found = connection.commands("batches"), b"0", []
    while True:
        cursor, members = await read.execute(
            "SSCAN", f"{keys.batch(batch)}:jids", cursor, "MATCH", "B:*", "COUNT", 1000
        )
        found += [member.decode(errors="replace").removeprefix("B:") for member in members]
        if int(cursor) == 0:
            return found


@attrs.frozen
class Waiting:
    """Of members that wait for others, for which: `on`. `is_all`: the whole graph was looked at; else members may be missing, and some of what they wait for."""

    on: Mapping[str, list[str]]
    is_all: bool


async def waits_for(connection: Connection, keys: Keys, batch: str, most: int) -> Waiting:
    """Which members of a batch wait for which others that have not ended. It looks until it has found `most` of them or so, and no longer than two seconds. Raises BrokerError."""
    read, cursor, until = connection.commands("batches"), None, trio.current_time() + GRAPH_LOOK_S
    found: dict[str, list[str]] = {}
    pages: list[tuple[str, list[bytes]]] = []
    noted: set[bytes] = set()
    while cursor != 0 and len(found) < most and trio.current_time() < until:
        cursor, fields = await read.hscan(f"{keys.batch(batch)}:graph", cursor, 200)
        for name, packed in fields.items():
            kind, text = name[:2], name[2:].decode(errors="replace")
            if kind == b"w:" and len(_unpacked(packed)) >= WAITING:
                found[text] = []
            elif kind == b"f:":
                pages.append((text.rpartition(" ")[0], [jid for jid in _unpacked(packed) if isinstance(jid, bytes)]))
            elif kind in (b"n:", b"e:"):
                noted.add(name)
    for before, jids in pages:
        for jid in (each.decode(errors="replace") for each in jids):
            # who waits for several has a field for each of those that it still waits for
            waits = f"n:{jid}".encode() not in noted or f"e:{jid} {before}".encode() in noted
            if jid in found and waits:
                found[jid].append(before)
    return Waiting(found, cursor == 0)


def _unpacked(packed: bytes) -> list[Any]:
    """A record of the graph; an empty one for what somebody else has written."""
    try:
        record = unpack_bytes(packed)
    except ValueError:
        return []
    return record if isinstance(record, list) else []


@attrs.frozen
class Cancelled:
    """What became of a batch that was cancelled: how many members were deleted and stopped, and what didn't stop."""

    deleted: int
    stopped: int
    problems: list[str]


async def cancel(session: Session, batch: str) -> Cancelled | None:
    """Have a batch, and those that lie in it, end: no more members, those that wait are deleted, those that run are cancelled. None if it is over.

    Raises BrokerError; what was done by then is done, and it may be called again.
    """
    if not await cancel_batch(session.connection, session.keys, batch):
        return None
    deleted, stopped, problems = 0, 0, list[str]()
    for inner in await inner_batches(session.connection, session.keys, batch):
        if (of_inner := await cancel(session, inner)) is not None:
            deleted, stopped = deleted + of_inner.deleted, stopped + of_inner.stopped
            problems += of_inner.problems
    for _ in range(ROUNDS):
        found = 0
        async with aclosing(session.inspector.members(batch)) as entries:
            members = [entry async for entry in entries if entry.place != "dead"]  # who is dead has ended
        for entry in members:
            if entry.place != "running":
                gone = (await session.actions.move(Location(entry.place, entry.list_queue), entry, Delete())).moved
                deleted, found = deleted + gone, found + gone
        running = [entry for entry in members if entry.place == "running"]
        still = await cancel_all_running(session, running, "discard")
        stopped, found = stopped + len(running) - len(still), found + len(running) - len(still)
        problems += still
        if not found:
            break
    return Cancelled(deleted, stopped, problems)
