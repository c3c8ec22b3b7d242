"""What `batches` and `batch` do."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

from trioworkers.broker.people.acts import retry
from trioworkers.broker.people.batches import (
    BatchState,
    Waiting,
    batch_state,
    batches,
    cancel,
    inner_batches,
    waits_for,
)
from trioworkers.cli.move_jobs import Chosen, act_on
from trioworkers.cli.rows import row_of
from trioworkers.cli.session import Session
from trioworkers.cli.tables import Column, Rows, clean, duration, moment, number, remark, say, write_json
from trioworkers.cli.where import parse_where
from trioworkers.errors import NotFound
from trioworkers.wire.membership import MAX_DEPTH
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
AFTER_SHOWN, TREE_LINES = 3, 100
MOST_IN_JSON = 10_000
"""Members: a batch may have any number."""


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
    """One batch: how far it is, the batches in it, its members that have not ended, those that are dead. Raises NotFound."""
    now_s = await session.inspector.now_s()
    state = await _state(session, batch)
    inner = await inner_batches(session.connection, session.keys, batch)
    left = state.pending + state.ended.get("dead", 0) - len(inner)
    members = await _members(session, batch, min(left, MOST_IN_JSON if as_json else SHOWN), now_s)
    if as_json:
        write_json({**_row(state, now_s), "inner": inner, "members": members})
        return
    for title, text in _lines(state, now_s):
        sys.stdout.write(f"{title:<12}{clean(text)}\n")
    waiting = Waiting({}, is_all=True)
    if any(row["in"] == "waiting" for row in members):
        waiting = await waits_for(session.connection, session.keys, batch, MOST_IN_JSON)
    for row in members:
        after = waiting.on.get(row["jid"], ())
        sys.stdout.write(clean(f"  {row['in']:<10} {row['jid']}  {row['class']}{_after(after)}") + "\n")
    if not waiting.is_all:
        remark("the graph is large: not all that members wait for is shown")
    if len(members) == SHOWN < left:
        remark(f"… and {number(left - SHOWN)} more members: `trioworkers jobs QUEUE --where batch={batch}`")
    lines: list[str] = []
    await _tree(session, inner, 1, lines)
    sys.stdout.writelines(line + "\n" for line in lines)


async def _members(session: Session, batch: str, most: int, now_s: float) -> list[dict[str, Any]]:
    """So many of those that have not ended, or are dead. Who has all looks no further."""
    members: list[dict[str, Any]] = []
    if most > 0:
        async with aclosing(session.inspector.members(batch)) as found:
            async for entry in found:
                members.append(row_of(entry, now_s))
                if len(members) == most:
                    break
    return members


def _after(jids: Sequence[str]) -> str:
    """For which others it waits, in a few words."""
    shown = ", ".join(jids[:AFTER_SHOWN])
    more = f" and {number(len(jids) - AFTER_SHOWN)} more" if len(jids) > AFTER_SHOWN else ""
    return f"  after {shown}{more}" if jids else ""


async def _tree(session: Session, batches: Sequence[str], depth: int, lines: list[str]) -> None:
    """The batches in a batch, and those in them, a few of each, as long as there is room for lines."""
    for batch in batches[:SHOWN]:
        state = await batch_state(session.connection, session.keys, batch)
        if len(lines) >= TREE_LINES or state is None:
            continue
        text = f"batch {batch}  {state.state}, {number(state.pending)} of {number(state.total)} pending  {state.description}"
        lines.append("  " * depth + clean(text).rstrip())
        if depth < MAX_DEPTH:
            await _tree(session, await inner_batches(session.connection, session.keys, batch), depth + 1, lines)
    if len(batches) > SHOWN:
        lines.append("  " * depth + f"… and {number(len(batches) - SHOWN)} more")


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
