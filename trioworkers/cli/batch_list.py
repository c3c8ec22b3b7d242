"""What `batches` and `batch` do."""

from __future__ import annotations

import sys
from contextlib import aclosing
from typing import Any

from trioworkers.broker.people.acts import retry
from trioworkers.broker.people.batches import BatchState, batch_state, batches, cancel, inner_batches
from trioworkers.cli.move_jobs import Chosen, act_on
from trioworkers.cli.rows import row_of
from trioworkers.cli.session import Session
from trioworkers.cli.tables import Column, Rows, clean, duration, moment, number, remark, say, write_json
from trioworkers.cli.where import parse_where
from trioworkers.errors import NotFound
from trioworkers.wire.places import Location
from trioworkers.wording import counted

_COLUMNS = (
    Column("batch", lambda row: row["batch"]),
    Column("state", lambda row: row["state"]),
    Column("total", lambda row: number(row["total"]), right=True),
    Column("pending", lambda row: number(row["pending"]), right=True),
    Column("dead", lambda row: number(row["ended"].get("dead", 0)), right=True),
    Column("age", lambda row: duration(row["age"]), right=True),
    Column("description", lambda row: row["description"], wide=True),
)
SHOWN = 20


async def listed(session: Session, *, limit: int, as_json: bool) -> None:
    """All batches that are known, the one that moved last first."""
    rows, shown, now_s = Rows(_COLUMNS, as_json=as_json), 0, await session.inspector.now_s()
    async with aclosing(batches(session.connection, session.keys)) as found:
        async for state in found:
            if limit and shown == limit:
                rows.end()
                remark("… and more: --limit 0 shows all")
                return
            rows.add(_row(state, now_s))
            shown += 1
    rows.end()
    if not shown:
        remark("no batches")


async def show(session: Session, batch: str, *, as_json: bool) -> None:
    """One batch: how far it is, its members that have not ended, those that are dead. Raises NotFound."""
    now_s = await session.inspector.now_s()
    state = await _state(session, batch)
    inner = await inner_batches(session.connection, session.keys, batch)
    async with aclosing(session.inspector.members(batch)) as found:
        members = [row_of(entry, now_s) async for entry in found]
    if as_json:
        write_json({**_row(state, now_s), "inner": inner, "members": members})
        return
    for title, text in _lines(state, now_s):
        sys.stdout.write(f"{title:<12}{clean(text)}\n")
    for each in inner:
        sys.stdout.write(f"{'batch':<12}{clean(each)}, in this one\n")
    for row in members[:SHOWN]:
        sys.stdout.write(clean(f"  {row['in']:<10} {row['jid']}  {row['class']}") + "\n")
    if len(members) > SHOWN:
        remark(f"… and {number(len(members) - SHOWN)} more members: `trioworkers jobs QUEUE --where batch={batch}`")


async def stop(session: Session, batch: str) -> None:
    """Cancel a batch. Raises NotFound for one that is over, or is none."""
    await _state(session, batch)
    done = await cancel(session, batch)
    if done is None:
        raise NotFound(f"batch {batch} is over: nothing to cancel")
    say(f"{batch}: cancelled; {counted(done.deleted, 'waiting member')} deleted, {number(done.stopped)} stopped")
    for problem in done.problems:
        remark(problem)


async def again(session: Session, batch: str) -> None:
    """Have its dead members tried again. Raises NotFound."""
    await _state(session, batch)
    chosen = Chosen(jids=(), source=Location("dead"), where=parse_where([f"batch={batch}"]), yes=True, dry_run=False)
    await act_on(session, retry(), chosen)


async def _state(session: Session, batch: str) -> BatchState:
    state = await batch_state(session.connection, session.keys, batch)
    if state is None:
        raise NotFound(f"no batch {batch}: it never was, or is forgotten (a day after its end)")
    return state


def _row(state: BatchState, now_s: float) -> dict[str, Any]:
    return {
        "batch": state.id,
        "description": state.description,
        "state": state.state,
        "total": state.total,
        "pending": state.pending,
        "ended": dict(state.ended),
        "created": state.created_s,
        "age": None if state.created_s is None else max(0.0, now_s - state.created_s),
        "moved": state.moved_s,
        "parent": state.parent or None,
        "callbacks": dict(state.fired),
    }


def _lines(state: BatchState, now_s: float) -> list[tuple[str, str]]:
    lines = [("batch", state.id), ("state", state.state)]
    if state.description:
        lines.append(("description", state.description))
    if state.created_s is not None:
        lines.append(("created", f"{moment(state.created_s)}, {duration(now_s - state.created_s)} ago"))
    if state.parent:
        lines.append(("lies in", state.parent))
    ended = ", ".join(f"{number(count)} {how}" for how, count in state.ended.items()) or "none ended"
    lines.append(("members", f"{number(state.total)}: {number(state.pending)} pending, {ended}"))
    lines += [(f"on_{event}", f"at {moment(at_s)}") for event, at_s in state.fired.items()]
    return lines
