"""What `trioworkers outboxes` does: list what waits in one shard for others, show it, write it out, skip what can't go."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import IO

from trioworkers.broker.people.outboxes import MOST, first_entry, outbox_entries, outboxes, skip
from trioworkers.cli.json_lines import sink_for
from trioworkers.cli.move_jobs import confirm
from trioworkers.cli.rows import row_of
from trioworkers.cli.session import Session
from trioworkers.cli.tables import Column, Rows, duration, number, remark, say
from trioworkers.errors import NotFound
from trioworkers.wire.by_operator import encode_entry
from trioworkers.wire.entry import Entry
from trioworkers.wire.outbox_entry import OutboxEntry
from trioworkers.wording import counted

_OUTBOXES = (
    Column("for shard", lambda row: row["target"]),
    Column("entries", lambda row: number(row["entries"]), right=True),
    Column("for", lambda row: duration(row["age"]), right=True),
    Column("problem", lambda row: row["problem"]),
)
_JOBS = (
    Column("entry", lambda row: row["entry"]),
    Column("queue", lambda row: row["queue"]),
    Column("jid", lambda row: row["jid"]),
    Column("class", lambda row: row["class"], wide=True),
    Column("for", lambda row: duration(row["age"]), right=True),
)


async def listed(session: Session, *, as_json: bool) -> None:
    """All in which something waits."""
    now_s, rows, states = (
        await session.inspector.now_s(),
        Rows(_OUTBOXES, as_json=as_json),
        await outboxes(session.connection, session.keys),
    )
    for state in states:
        age = None if state.since_s is None else round(now_s - state.since_s, 3)
        rows.add({"target": state.target, "entries": state.entries, "age": age, "problem": state.problem})
    rows.end()
    if not states:
        remark("nothing waits for another shard")
    if len(states) == MOST:
        remark(f"… shown are {MOST} of them")


async def show(session: Session, target: str, *, limit: int, as_json: bool) -> None:
    """The jobs that wait for a shard, what goes next first. Raises NotFound if there are none."""
    now_s, rows, shown = await session.inspector.now_s(), Rows(_JOBS, as_json=as_json), 0
    async with aclosing(_jobs(session, target)) as jobs:
        async for entry, job in jobs:
            if limit and shown == limit:
                rows.end()
                remark("… and more: --limit 0 shows all")
                return
            rows.add({**row_of(job, now_s), "in": "outbox", "entry": entry.id})
            shown += 1
    rows.end()
    if not shown:
        raise NotFound(f"nothing that can be read waits for the shard {target!r:.80}")


async def export(session: Session, target: str, sink: IO[bytes]) -> None:
    """Write the jobs that wait for a shard, a line each; `import` puts them into their queues."""
    count = 0
    async with aclosing(_jobs(session, target)) as jobs:
        async for _, job in jobs:
            sink.write(encode_entry(job) + b"\n")
            count += 1
    sink.flush()
    remark(f"{counted(count, 'job')} for the shard {target!r:.80} written; they still wait there")


async def skip_first(session: Session, target: str, *, yes: bool) -> None:
    """Give up what goes next, with all its jobs, so that what comes after it goes. They are written first. Raises NotFound, also if it has gone meanwhile."""
    first = await first_entry(session.connection, session.keys, target)
    if not yes:
        question = (
            f"{counted(len(first.jobs), 'job')} of entry {first.id} will never come to the shard {target!r:.80}. Go on?"
        )
        confirm(question, "--yes")
    _write(first.jobs)
    if not await skip(session.connection, session.keys, target, first.id):
        raise NotFound(f"entry {first.id} has gone meanwhile; nothing was skipped")
    say(f"entry {first.id} for the shard {target!r:.80} skipped, with {counted(len(first.jobs), 'job')}")


def _write(jobs: Sequence[Entry]) -> None:
    with sink_for(None) as sink:
        for job in jobs:
            sink.write(encode_entry(job) + b"\n")
        sink.flush()


async def _jobs(session: Session, target: str) -> AsyncGenerator[tuple[OutboxEntry, Entry], None]:
    async with aclosing(outbox_entries(session.connection, session.keys, target)) as entries:
        async for entry in entries:
            if not entry.is_readable:
                remark(f"entry {entry.id!r:.80} is no entry of an outbox")
            for job in entry.jobs:
                yield entry, job
