"""What `ps` does: processes, what they run, and where that awaits."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import trio

from trioworkers.broker.people.fleet_control import RECEIVED_WITHIN_S
from trioworkers.broker.people.outboxes import outboxes
from trioworkers.broker.people.running_jobs import tree_of
from trioworkers.cli.rows import ARGS, CLASS, JID, QUEUE, row_of
from trioworkers.cli.session import Session
from trioworkers.cli.tables import Column, Rows, clean, duration, number, remark, write_json, write_paragraphs
from trioworkers.errors import NotFound, Refused
from trioworkers.wire.control_messages import Reply
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
_PARENT = Column("parent", lambda row: row["parent"], least=8)
_RUNNING_COLUMNS = (
    Column("for", lambda row: duration(row["for"]), right=True),
    JID,
    CLASS,
    QUEUE,
    Column("process", lambda row: row["process"], least=8),
    ARGS,
)


async def ps(session: Session, wanted: str | None, *, tree: bool, limit: int, as_json: bool) -> None:
    """Processes, what they run, and where that awaits. Raises NotFound if there is no such process."""
    processes = await select_processes(session, wanted)
    now_s = await session.inspector.now_s()
    shown = limit or 1_000_000
    running = {process.identity: await session.inspector.running(process, shown) for process in processes}
    trees = await _trees(session, processes, shown) if tree else {}
    if as_json:
        for process in processes:
            jobs = [_running_row(job, now_s) for job in running[process.identity][:shown]]
            reply = trees.get(process.identity)
            extra = {"running": jobs, **({"tree": reply and reply.jobs} if tree else {})}
            write_json({**_process_row(process, now_s), **extra})
        return
    columns = list(_PROCESS_COLUMNS)
    if any(process.parent for process in processes):
        columns.insert(1, _PARENT)
        processes = sorted(processes, key=lambda process: process.parent)  # those that belong together, together
    rows = Rows(columns, as_json=False)
    for process in processes:
        rows.add(_process_row(process, now_s))
    rows.end()
    if not processes:
        remark("no process is running")
    await _tell_of_outboxes(session)
    if tree:
        _show_trees(processes, trees)
    else:
        _show_running([job for jobs in running.values() for job in jobs], processes, now_s, shown)


async def _tell_of_outboxes(session: Session) -> None:
    try:
        states = await outboxes(session.connection, session.keys)
    except Refused as error:  # a broken key, or no right to look: the processes can be shown all the same
        remark(f"what waits here for other shards can't be read: {error}")
        return
    for state in states:
        remark(f"jobs for the shard {state.target!r:.80} wait here: trioworkers outboxes show {state.target:.80}")


def _show_running(jobs: list[Running], processes: Sequence[Process], now_s: float, limit: int) -> None:
    if not jobs:
        return
    sys.stdout.write("\n")
    rows = Rows(_RUNNING_COLUMNS, as_json=False)
    for job in sorted(jobs, key=lambda job: job.run_at_s)[:limit]:
        rows.add(_running_row(job, now_s))
    rows.end()
    left_out = sum(process.busy for process in processes) - min(len(jobs), limit)
    if left_out > 0:
        remark(f"… and {number(left_out)} more running: --limit 0 shows all that the processes tell")


def _show_trees(processes: Sequence[Process], trees: Mapping[str, Reply | None]) -> None:
    for process in processes:
        sys.stdout.write(f"\n{clean(_name(process))}\n")
        reply = trees.get(process.identity)
        if not process.is_ours:
            sys.stdout.write("  not one of ours: it can't be asked\n")
        elif reply is None:
            sys.stdout.write(
                f"  no answer within {RECEIVED_WITHIN_S:g} s: gone, or its event loop is blocked (its log says where)\n"
            )
        else:
            write_paragraphs(reply.jobs or ["no job running"])
            if reply.more:
                sys.stdout.write(f"  … and {reply.more:,} more: --limit 0 shows them\n")


def _name(process: Process) -> str:
    return process.process_id or process.identity


async def select_processes(session: Session, wanted: str | None) -> list[Process]:
    """All, or the one of that process id, or whose identity begins so. Raises NotFound."""
    processes = await session.inspector.processes()
    if wanted is None:
        return processes
    exact = [process for process in processes if wanted in (process.process_id, process.identity)]
    found = exact or [process for process in processes if process.identity.startswith(wanted)]
    if not found:
        names = ", ".join(_name(process) for process in processes[:5]) or "none"
        raise NotFound(f"no process {wanted!r}; running: {names}")
    return found


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


def _running_row(job: Running, now_s: float) -> dict[str, Any]:
    return {**row_of(job.entry, now_s), "process": _name(job.process), "for": round(max(0.0, now_s - job.run_at_s), 1)}


async def _trees(session: Session, processes: Sequence[Process], limit: int) -> dict[str, Reply | None]:
    replies: dict[str, Reply | None] = {}

    async def ask(process: Process) -> None:
        replies[process.identity] = await tree_of(session, process.process_id, limit=limit)

    async with trio.open_nursery() as nursery:
        for process in processes:
            if process.is_ours:
                nursery.start_soon(ask, process)
    return replies
