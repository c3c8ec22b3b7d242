"""Periodic jobs, for people: what is due when, how the last runs ended, and what they want of one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import attrs

from trioworkers.broker.holds import ticks
from trioworkers.broker.holds.cron_entries import Edit, restoring
from trioworkers.broker.redis.connection import Connection
from trioworkers.errors import NotFound, Refused
from trioworkers.send import Send
from trioworkers.size_guard import SizeGuard
from trioworkers.wire.job import new_jid
from trioworkers.wire.keys import Keys
from trioworkers.wire.packing import unpack
from trioworkers.wire.periodic import Periodic, Run, decode_entry

MOST = 10_000
_FIELDS = ("definition", "origin", "paused", "broken")


@attrs.frozen
class EntryState:
    """One entry as it is now. `next_s`: its next tick in epoch seconds; inf if there is none. `entry`: None where it can't be read, for `problem`."""

    name: str
    next_s: float
    definition: bytes
    origin: str
    paused: bool
    entry: Periodic | None
    problem: str = ""


class PeriodicJobs:
    """Those of one Redis database. Every method raises BrokerError."""

    def __init__(self, connection: Connection, keys: Keys) -> None:
        self._connection = connection
        self._keys = keys
        self._read = connection.commands("periodic jobs")

    async def entries(self, most: int = MOST) -> list[EntryState]:
        """All of them, the next to be due first."""
        found = await self._read.zrange(self._keys.cron, 0, most - 1)
        return [await self._state(name.decode(errors="replace"), score) for name, score in found]

    async def _state(self, name: str, score: float) -> EntryState:
        try:
            fields = await self._read.hmget(self._keys.cron_entry(name), _FIELDS)
        except Refused as error:
            return EntryState(name, score, b"", "", paused=False, entry=None, problem=str(error))
        definition, origin, paused, broken = fields
        problem = "" if broken is None else broken.decode(errors="replace")
        entry = None
        try:
            entry = decode_entry(name, definition or b"")
        except ValueError as error:
            problem = problem or str(error)
        said = "" if origin is None else origin.decode(errors="replace")
        return EntryState(name, score, definition or b"", said, paused is not None, entry, problem)

    async def named(self, name: str) -> EntryState:
        """The entry with this name, or the only one of this class, or whose name ends so. Raises NotFound."""
        found = await self.entries()
        for fits in (
            [state for state in found if state.name == name],
            [state for state in found if name in state.name.split("/")[1:]],
        ):
            if len(fits) == 1:
                return fits[0]
            if fits:
                raise NotFound(f"several periodic jobs are called {name}: {', '.join(state.name for state in fits)}")
        known = ", ".join(state.name for state in found[:10]) or "none"
        raise NotFound(f"no periodic job is called {name}; there are: {known}")

    async def runs(self, name: str) -> list[Run]:
        """The last runs of an entry, the latest first."""
        found = await self._read.hgetall(self._keys.runs(name))
        runs = [run for jid, packed in found.items() if (run := _run(jid, packed)) is not None]
        return sorted(runs, key=lambda run: (run.at_s, run.tick_s), reverse=True)

    async def pause(self, name: str) -> None:
        """Have it be due no more, until it is resumed. Raises NotFound."""
        self._check(name, await ticks.edit(self._connection, Edit(self._keys, name, "pause")))

    async def resume(self, state: EntryState) -> float:
        """Have it be due again, from now on. Returns its next tick. Raises NotFound, Refused."""
        entry = _readable(state)
        now_s = await self._read.time_s()
        following = entry.when.after(math.floor(now_s))
        next_s = math.inf if following is None else following
        answer = await ticks.edit(
            self._connection, Edit(self._keys, state.name, "resume", state.definition, next_s=next_s)
        )
        self._check(state.name, answer)
        return next_s

    async def run(self, state: EntryState) -> tuple[str, str | None]:
        """Send its job now, whatever the time; its jid, and of a unique one that of who was there already. Raises NotFound, Refused, BadJob."""
        entry = _readable(state)
        now_s, jid = await self._read.time_s(), new_jid()
        tick_s = math.floor(now_s)
        due = ticks.DueEntry(state.name.encode(), b"", state.definition)
        take = ticks.Take(due, sends=[Send(entry.job_at(tick_s, jid))], dialect=entry.dialect)
        *_, push, later, locked, _runs = ticks.packed_take(take, self._keys, SizeGuard(), now_s)
        work = (push, later, locked, jid, tick_s, int(entry.skips))
        answer = await ticks.edit(self._connection, Edit(self._keys, state.name, "run", state.definition, work=work))
        if answer not in ("NONE", "CHANGED", "OK"):
            return jid, answer
        self._check(state.name, answer)
        return jid, None

    async def put(self, entry: Periodic) -> None:
        """See `ticks.put`."""
        await ticks.put(self._connection, self._keys, entry)

    async def restore(self, entry: Periodic, *, paused: bool) -> str:
        """Have one that was exported be there again, if there is none of its name: "OK", "THERE", or "CODE" where code declares it.

        Raises BadJob, ConfigurationError for one that can't be.
        """
        return await ticks.edit(
            self._connection, restoring(self._keys, entry, await self._read.time_s(), paused=paused)
        )

    async def delete(self, name: str) -> bool:
        """See `ticks.delete`."""
        return await ticks.delete(self._connection, self._keys, name)

    def _check(self, name: str, answer: str) -> None:
        if answer == "NONE":
            raise NotFound(f"no periodic job is called {name}")
        if answer == "CHANGED":
            raise Refused(f"periodic job {name} has just changed: look again")


def _readable(state: EntryState) -> Periodic:
    if state.entry is None:
        raise Refused(f"periodic job {state.name} can't be read: {state.problem}")
    return state.entry


def _run(jid: bytes, packed: bytes) -> Run | None:
    try:
        found: Sequence[Any] = unpack(packed)
        tick_s, at_s, how, ended_s = found
        return Run(
            jid.decode(errors="replace"), float(tick_s), float(at_s), str(how), float(ended_s) if ended_s else None
        )
    except Exception:  # noqa: BLE001 - whatever msgpack makes of what others wrote there: it is no run
        return None
