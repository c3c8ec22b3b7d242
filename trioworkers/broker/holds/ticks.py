"""Periodic jobs, as Redis keeps them: who takes a tick, and what processes declare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from trioworkers.broker.holds.cron_entries import (
    EDIT_CRON,
    FORGOTTEN_AFTER_S,
    NEWS_S,
    Edit,
    answer_of,
    check_deleted,
    check_put,
    putting,
    score,
)
from trioworkers.broker.redis.connection import Connection
from trioworkers.broker.redis.scripts import ENDS, script
from trioworkers.errors import Unavailable
from trioworkers.send import Send
from trioworkers.sending import Sending
from trioworkers.size_guard import SizeGuard
from trioworkers.wire.dialect import SIDEKIQ
from trioworkers.wire.dialects import dialect_named
from trioworkers.wire.keys import Keys
from trioworkers.wire.packing import pack, unpack, unpack_bytes
from trioworkers.wire.periodic import KEPT_RUNS, Periodic, Run

TAKE_TICKS = script(
    __file__, "ticks", keys=("cron",), args=("own", "takes", "forgotten_after_s", "kept_runs"), preludes=ENDS
)
REGISTER_CRON = script(
    __file__,
    "register_cron",
    keys=("cron", "lease"),
    args=("own", "entries", "schedule", "since", "sweep", "forgotten_after_s", "ours", "news_s"),
    preludes=("send",),
)


@attrs.frozen
class DueEntry:
    """An entry that is due. `tick`: its score as it was given; `definition`: as it lies there, whoever wrote it, b"" for none."""

    name: bytes
    tick: bytes
    definition: bytes


@attrs.frozen
class Take:
    """What is to be done about one: `sends` for its tick, and its next one. `dialect`: see `Periodic`. `runs`: what its history says, of its sends in their order first.

    `skips`: whether a job in whose place there is another one is none. `broken`: instead of all that, why it can't be read.
    """

    entry: DueEntry
    next_s: float = float("inf")
    sends: Sequence[Send] = ()
    runs: Sequence[Run] = ()
    skips: bool = False
    dialect: str = ""
    broken: str = ""


@attrs.frozen
class Taken:
    """What came of it. `how`: "taken", "late", "early", "changed", "forgotten", "error"; `skipped`: by the number of a send the jid of who was there already."""

    how: str
    problem: str = ""
    skipped: dict[int, str] = attrs.field(factory=dict)


@attrs.frozen
class Declaration:
    """What one entry of a process's code says."""

    name: str
    definition: bytes
    timing: str
    next_s: float


@attrs.frozen
class Registered:
    """`changed`, `left`: names of entries that are others now, or gone."""

    changed: Sequence[str] = ()
    left: Sequence[str] = ()


def packed_take(take: Take, keys: Keys, guard: SizeGuard, now_s: float) -> tuple[Any, ...]:
    """As `ticks.lua` wants it. Raises BadJob, ConfigurationError for a dialect that isn't known."""
    entry = take.entry
    work: tuple[Any, ...] = ([], [])
    if take.sends:
        dialect = dialect_named(take.dialect or f"{SIDEKIQ.family}:{keys.worker_namespace}")
        work = Sending(dialect.keys(keys.worker_namespace), dialect, guard).work(take.sends, now_s, guard.check)
    runs = [
        (run.jid, run.tick_s, run.how, number if number < len(take.sends) else -1, int(take.skips))
        for number, run in enumerate(take.runs)
    ]
    following = "inf" if take.next_s == float("inf") else f"{take.next_s:.0f}"
    locked = work[2] if len(work) > 2 else ""
    return (entry.name, entry.tick, entry.definition, following, take.broken, work[0], work[1], locked, runs)


async def take_ticks(connection: Connection, keys: Keys, packed: Sequence[tuple[Any, ...]]) -> list[Taken]:
    """Deal with entries that are due: of each, all or nothing. May be repeated: what is done is `late` then. Raises BrokerError."""
    args = [keys.own, pack(packed), FORGOTTEN_AFTER_S, KEPT_RUNS]
    reply = unpack_bytes(await connection.run(TAKE_TICKS, [keys.cron], args))
    return [_taken(answer) for answer in reply]


def _taken(answer: Any) -> Taken:
    how, *rest = answer
    if how == b"error":
        return Taken("error", rest[0].decode(errors="replace"))
    skipped = {number: jid.decode(errors="replace") for number, jid in zip(rest[::2], rest[1::2], strict=True)}
    return Taken(how.decode(), skipped=skipped)


@attrs.frozen
class Registrar:
    """Whose code it is: of the worker with `lease` (its key and value). `schedule`: what stands for all that it declares."""

    lease_key: str
    lease: str
    keys: Keys
    schedule: str


async def register(
    connection: Connection, who: Registrar, declared: Sequence[Declaration], since_s: float, *, sweep: bool = False
) -> Registered:
    """Declare entries of a process's code. `since_s`: when it first did so, by Redis's clock; the same each time. May be repeated.

    Raises BrokerError: Unavailable while there is no lease.
    """
    entries = [(each.name, each.definition, each.timing, score(each.next_s)) for each in declared]
    args = [
        who.keys.own,
        pack(entries),
        who.schedule,
        f"{since_s:.6f}",
        int(sweep),
        FORGOTTEN_AFTER_S,
        who.lease,
        NEWS_S,
    ]
    reply = await connection.run(REGISTER_CRON, [who.keys.cron, who.lease_key], args)
    if reply is None:
        raise Unavailable("the lease is gone")
    return Registered(*unpack(reply))


async def edit(connection: Connection, edit: Edit) -> str:
    """What people want of an entry; what comes of it `edit_cron.lua` says. Raises BrokerError."""
    answer = await connection.run(EDIT_CRON, [edit.keys.cron], edit.args)
    return answer_of(answer)


async def put(connection: Connection, keys: Keys, entry: Periodic) -> None:
    """Have an entry that lives in Redis only. Raises BadJob, ConfigurationError for one that can't be, or that code declares; BrokerError."""
    now_s = await connection.commands("periodic").time_s()
    check_put(entry.name, await edit(connection, putting(keys, entry, now_s)))


async def delete(connection: Connection, keys: Keys, name: str) -> bool:
    """Have an entry be gone, with its history; whether there was one. Raises ConfigurationError for one that code declares; BrokerError."""
    return check_deleted(name, await edit(connection, Edit(keys, name, "delete")))
