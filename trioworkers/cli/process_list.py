"""What `ps` does: processes, what they run, and where that awaits."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
import trio

from trioworkers.broker.people.fleet_control import RECEIVED_WITHIN_S
from trioworkers.broker.people.outboxes import outboxes
from trioworkers.broker.people.running_jobs import tree_of
from trioworkers.cli.each_shard import of_each
from trioworkers.cli.rows import ARGS, CLASS, JID, QUEUE, row_of
from trioworkers.cli.session import Session
from trioworkers.cli.tables import Column, Rows, clean, duration, number, remark, write_json, write_paragraphs
from trioworkers.errors import NotFound, Refused
from trioworkers.printable import as_argument
from trioworkers.wire.control_messages import Reply
from trioworkers.wire.process_parts import Parts, process_of, together
from trioworkers.wire.process_records import Process, Running

_PROCESS_COLUMNS = (
    Column("process", lambda row: row["process"], least=20),
    Column("kind", lambda row: row["kind"]),
    Column("state", lambda row: row["state"]),
    Column("busy", lambda row: f"{number(row['busy'])}/{number(row['concurrency'])}", right=True),
    Column("up", lambda row: duration(row["up"]), right=True),
    Column("beat", lambda row: duration(row["beat"]), right=True),
    Column("memory", lambda row: f"{row['rss_kb'] // 1024} MB", right=True),
    Column("queues", lambda row: " ".join(row["queues"]), wide=True),
)
_SHARDS = Column("shards", lambda row: " ".join(row["shards"]))
_PARENT = Column("parent", lambda row: row["parent"], least=8)
_RUNNING_COLUMNS = (
    Column("for", lambda row: duration(row["for"]), right=True),
    JID,
    CLASS,
    QUEUE,
    Column("process", lambda row: row["process"], least=8),
    ARGS,
)
_SHARD = Column("shard", lambda row: row["shard"])


@attrs.frozen
class _Looked:
    """What is shown of one process: what it runs, and what it replied in each shard, or None, if it was asked where that awaits."""

    parts: Parts
    running: Sequence[tuple[str, Running]]
    replies: Mapping[str, Reply | None]

    @property
    def process(self) -> Process:
        return self.parts.whole


async def ps(sessions: Mapping[str, Session], wanted: str | None, *, tree: bool, limit: int, as_json: bool) -> None:
    """Processes, what they run, and where that awaits; one that works in several shards is one. Raises NotFound if there is no such process."""
    shown = limit or 1_000_000
    there = await of_each(sessions, lambda session: session.inspector.processes())
    now_s = await next(iter(sessions.values())).inspector.now_s()
    chosen = _chosen(together(there), wanted)
    looked = await _look(sessions, chosen, tree=tree, limit=shown)
    several = "" not in sessions
    if as_json:
        for each in looked:
            write_json(_as_json(each, now_s, shown, several=several, tree=tree))
        return
    columns = list(_PROCESS_COLUMNS)
    if several:
        columns.insert(1, _SHARDS)
    if any(each.process.parent for each in looked):
        columns.insert(1, _PARENT)
        looked = sorted(looked, key=lambda each: each.process.parent)  # those that belong together, together
    rows = Rows(columns, as_json=False)
    for each in looked:
        rows.add({**_process_row(each.process, now_s), "shards": [*each.parts.at]})
    rows.end()
    if not looked:
        remark("no process is running")
    await of_each(sessions, _tell_of_outboxes)
    if tree:
        _show_trees(looked, several=several)
    else:
        _show_running(looked, now_s, shown, several=several)


async def _look(sessions: Mapping[str, Session], chosen: Sequence[Parts], *, tree: bool, limit: int) -> list[_Looked]:
    """At all shards at once, where each takes care of its own processes."""
    running: dict[tuple[str, str], Sequence[Running]] = {}
    replies: dict[tuple[str, str], Reply | None] = {}

    async def look(shard: str) -> None:
        here = [parts.at[shard] for parts in chosen if shard in parts.at]
        for process in here:
            running[shard, process.identity] = await sessions[shard].inspector.running(process, limit)
        if tree:
            trees = await _trees(sessions[shard], here, limit)
            replies.update({(shard, identity): reply for identity, reply in trees.items()})

    await of_each({shard: shard for shard in sessions}, look)
    return [
        _Looked(
            parts,
            [(shard, job) for shard, process in parts.at.items() for job in running[shard, process.identity]],
            {shard: replies.get((shard, process.identity)) for shard, process in parts.at.items()},
        )
        for parts in chosen
    ]


def _as_json(each: _Looked, now_s: float, limit: int, *, several: bool, tree: bool) -> dict[str, Any]:
    jobs = [
        {**({"shard": shard} if several else {}), **_running_row(each, job, now_s)}
        for shard, job in each.running[:limit]
    ]
    replies = [reply for reply in each.replies.values() if reply is not None]
    return {
        **({"shards": [*each.parts.at]} if several else {}),
        **_process_row(each.process, now_s),
        "running": jobs,
        **({"tree": [text for reply in replies for text in reply.jobs] if replies else None} if tree else {}),
    }


async def _tell_of_outboxes(session: Session) -> None:
    try:
        states = await outboxes(session.connection, session.keys)
    except Refused as error:  # a broken key, or no right to look: the processes can be shown all the same
        remark(f"what waits here for other shards can't be read: {error}")
        return
    for state in states:
        remark(
            f"jobs for the shard {state.target!r:.80} wait here: trioworkers outboxes show {as_argument(state.target)}"
        )


def _show_running(looked: Sequence[_Looked], now_s: float, limit: int, *, several: bool) -> None:
    jobs = [(each, shard, job) for each in looked for shard, job in each.running]
    if not jobs:
        return
    sys.stdout.write("\n")
    rows = Rows((_SHARD, *_RUNNING_COLUMNS) if several else _RUNNING_COLUMNS, as_json=False)
    for each, shard, job in sorted(jobs, key=lambda row: row[2].run_at_s)[:limit]:
        rows.add({"shard": shard, **_running_row(each, job, now_s)})
    rows.end()
    left_out = sum(each.process.busy for each in looked) - min(len(jobs), limit)
    if left_out > 0:
        remark(f"… and {number(left_out)} more running: --limit 0 shows all that the processes tell")


def _show_trees(looked: Sequence[_Looked], *, several: bool) -> None:
    for each in looked:
        sys.stdout.write(f"\n{clean(_name(each.process))}\n")
        if not each.process.is_ours:
            sys.stdout.write("  not one of ours: it can't be asked\n")
            continue
        replies = [reply for reply in each.replies.values() if reply is not None]
        jobs = [text for reply in replies for text in reply.jobs]
        if jobs or replies:
            write_paragraphs(jobs or ["no job running"])
        if more := sum(reply.more for reply in replies):
            sys.stdout.write(f"  … and {more:,} more: --limit 0 shows them\n")
        for shard, reply in each.replies.items():
            if reply is None:
                where = f" in shard {shard}" if several else ""
                sys.stdout.write(
                    f"  no answer{where} within {RECEIVED_WITHIN_S:g} s: gone, or its event loop is blocked (its log says where)\n"
                )


def _name(process: Process) -> str:
    return process.process_id or process.identity


async def select_processes(session: Session, wanted: str | None) -> list[Process]:
    """All, or the one of that process id, or whose identity begins so. Raises NotFound."""
    return [each.whole for each in _chosen(together({"": await session.inspector.processes()}), wanted)]


def _chosen(there: Sequence[Parts], wanted: str | None) -> Sequence[Parts]:
    """As `select_processes`."""
    if wanted is None:
        return there
    exact = [each for each in there if wanted in _names(each)]
    found = exact or [each for each in there if any(part.identity.startswith(wanted) for part in each.at.values())]
    if not found:
        names = ", ".join(_name(each.whole) for each in there[:5]) or "none"
        raise NotFound(f"no process {wanted!r}; running: {names}")
    return found


def _names(parts: Parts) -> Iterator[str]:
    yield process_of(next(iter(parts.at.values())))  # as it is shown where it works in several shards
    for process in (parts.whole, *parts.at.values()):
        yield from (process.process_id, process.identity)


def _process_row(process: Process, now_s: float) -> dict[str, Any]:
    return {
        "process": _name(process),
        "identity": process.identity,
        "parent": process.parent,
        "kind": process.kind,
        "state": "quiet" if process.quiet else "running",
        "busy": process.busy,
        "concurrency": process.concurrency,
        "up": round(now_s - process.started_at_s, 1),
        "beat": round(now_s - process.beat_s, 1),
        "rss_kb": process.rss_kb,
        "queues": dict(process.queues),
        "rates": dict(process.rates),
    }


def _running_row(looked: _Looked, job: Running, now_s: float) -> dict[str, Any]:
    return {
        **row_of(job.entry, now_s),
        "process": _name(looked.process),
        "for": round(max(0.0, now_s - job.run_at_s), 1),
    }


async def _trees(session: Session, processes: Sequence[Process], limit: int) -> dict[str, Reply | None]:
    replies: dict[str, Reply | None] = {}

    async def ask(process: Process) -> None:
        replies[process.identity] = await tree_of(session, process.process_id, limit=limit)

    async with trio.open_nursery() as nursery:
        for process in processes:
            if process.is_ours:
                nursery.start_soon(ask, process)
    return replies
