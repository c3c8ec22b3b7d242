"""Periodic jobs, as Redis keeps them: who takes a tick, and what processes declare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import attrs

from trioworkers.broker.redis.connection import Connection
from trioworkers.broker.redis.scripts import ENDS, script
from trioworkers.errors import ConfigurationError
from trioworkers.outcome import Send
from trioworkers.sending import Sending
from trioworkers.size_guard import SizeGuard
from trioworkers.wire.dialect import SIDEKIQ
from trioworkers.wire.dialects import dialect_named
from trioworkers.wire.keys import Keys
from trioworkers.wire.packing import pack, unpack, unpack_bytes
from trioworkers.wire.periodic import KEPT_RUNS, Periodic, Run, encode_entry

TAKE_TICKS = script(
    __file__, "ticks", keys=("cron",), args=("own", "takes", "forgotten_after_s", "kept_runs"), preludes=ENDS
)
REGISTER_CRON = script(
    __file__,
    "register_cron",
    keys=("cron",),
    args=("own", "entries", "schedule", "since", "sweep", "forgotten_after_s"),
    preludes=("send",),
)

EDIT_CRON = script(
    __file__,
    "edit_cron",
    keys=("cron",),
    args=("own", "name", "action", "definition", "timing", "following", "work", "forgotten_after_s"),
    preludes=ENDS,
)

Action = Literal["put", "delete", "pause", "resume", "run"]

FORGOTTEN_AFTER_S = 600
"""An entry of code that no live process has declared for so long leaves."""


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
    """`since`: when this process first declared anything; to be given again. `changed`, `left`: names of entries that are others now, or gone."""

    since: str
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


async def register(
    connection: Connection,
    keys: Keys,
    schedule: str,
    declared: Sequence[Declaration],
    since: str,
    *,
    sweep: bool = False,
) -> Registered:
    """Declare entries of a process's code. May be repeated. Raises BrokerError."""
    entries = [(each.name, each.definition, each.timing, _score(each.next_s)) for each in declared]
    args = [keys.own, pack(entries), schedule, since, int(sweep), FORGOTTEN_AFTER_S]
    since, changed, left = unpack(await connection.run(REGISTER_CRON, [keys.cron], args))
    return Registered(since, changed, left)


async def edit(
    connection: Connection,
    keys: Keys,
    name: str,
    action: Action,
    definition: bytes = b"",
    timing: str = "",
    next_s: float = float("inf"),
    work: tuple[Any, ...] = (),
) -> str:
    """What people want of an entry; what comes of it `edit_cron.lua` says. Raises BrokerError."""
    args = [keys.own, name, action, definition, timing, _score(next_s), pack(work), FORGOTTEN_AFTER_S]
    answer = await connection.run(EDIT_CRON, [keys.cron], args)
    return str(answer.decode(errors="replace"))


async def put(connection: Connection, keys: Keys, entry: Periodic) -> None:
    """Have an entry that lives in Redis only. Raises BadJob, ConfigurationError for one that can't be, or that code declares; BrokerError."""
    now_s = await connection.commands("periodic").time_s()
    try:
        definition, following = encode_entry(entry), entry.when.after(int(now_s))
    except ValueError as error:
        raise ConfigurationError(f"periodic job {entry.name}: {error}") from None
    next_s = float("inf") if following is None else float(following)
    if await edit(connection, keys, entry.name, "put", definition, entry.timing, next_s) == "CODE":
        raise ConfigurationError(f"periodic job {entry.name} is declared in code, and is changed there")


async def delete(connection: Connection, keys: Keys, name: str) -> bool:
    """Have an entry be gone, with its history; whether there was one. Raises ConfigurationError for one that code declares; BrokerError."""
    answer = await edit(connection, keys, name, "delete")
    if answer == "CODE":
        raise ConfigurationError(f"periodic job {name} is declared in code: pause it, or take it out there")
    return answer == "OK"


def _score(seconds: float) -> str:
    return "inf" if seconds == float("inf") else f"{seconds:.0f}"
