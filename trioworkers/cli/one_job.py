"""What `show` does: one job, wherever it is."""

from __future__ import annotations

import sys

from trioworkers.broker.people.besides import Besides, look_besides
from trioworkers.broker.people.running_jobs import tree_of
from trioworkers.cli.jids import find_job, place_of
from trioworkers.cli.progress_bar import shown
from trioworkers.cli.rows import Row, error_text, payload_fields, row_of
from trioworkers.cli.session import Session
from trioworkers.cli.tables import clean, duration, moment, write_json, write_paragraphs
from trioworkers.wire.entry import Entry
from trioworkers.wire.places import place
from trioworkers.wording import counted


async def show(session: Session, jid: str, *, as_json: bool) -> None:
    """All that is known of a job. Raises NotFound or Ambiguous."""
    now_s = await session.inspector.now_s()
    found = await find_job(session.inspector, jid)
    if not found.entries:
        raise found.missing()
    for number, entry in enumerate(found.entries):
        if number and not as_json:
            sys.stdout.write("\n")
        await _show_one(session, entry, now_s, as_json=as_json)
        sys.stdout.flush()


async def _show_one(session: Session, entry: Entry, now_s: float, *, as_json: bool) -> None:
    reply = await tree_of(session, entry.process_id, jid=entry.jid) if entry.place == "running" else None
    row = row_of(entry, now_s)
    row["attempts_made"] = entry.attempts_made
    row["crashes"] = await session.inspector.crashes(entry.jid)
    row["times"] = {name.removesuffix("_at"): value for name, value in entry.times.items()}
    row["backtrace"] = entry.backtrace
    if entry.place == "running":
        row["tree"] = None if reply is None else reply.jobs
    besides = await look_besides(session, entry.jid, entry.payload, () if reply is None else reply.log)
    row["progress"] = (
        None
        if besides.told is None
        else {"at": besides.told.at, "total": besides.told.total, "message": besides.told.message}
    )
    row["log"] = [{"at": line.at_s, "level": line.level, "text": line.text} for line in besides.log]
    if as_json:
        write_json({**row, **payload_fields(entry.payload)})
        return
    for title, text in [*_lines(entry, row, now_s), *_done(besides)]:
        sys.stdout.write(f"{title:<10}  {clean(text)}\n")
    if entry.backtrace:
        sys.stdout.write("backtrace\n")
        write_paragraphs(entry.backtrace)
    if reply is not None and reply.jobs:
        sys.stdout.write("awaits\n")
        write_paragraphs(reply.jobs)
    if besides.log:
        sys.stdout.write("log\n")
        write_paragraphs([f"{moment(line.at_s)} {line.level} {line.text}" for line in besides.log])
    sys.stdout.write(f"payload\n  {clean(entry.payload.decode(errors='replace'))}\n")


def _lines(entry: Entry, row: Row, now_s: float) -> list[tuple[str, str]]:
    lines = [("jid", entry.jid), ("where", place_of(entry))]
    lines.append(("class", entry.job_class or "(unreadable)"))
    if entry.classes[1] != entry.job_class:
        lines.append(("wrapper", entry.classes[1]))
    if entry.active_job_id:
        lines.append(("job id", f"{entry.active_job_id}, as Rails calls it"))
    lines.append(("queue", entry.queue))
    if entry.tags:
        lines.append(("tags", " ".join(entry.tags)))
    running = ", and the one that runs" if entry.place == "running" else ""
    lines.append(("attempts", f"{entry.attempts_made:,} so far{running}"))
    if entry.score is not None and entry.due_s is None:
        lines.append((place(entry.place).score, _when(entry.score, now_s)))
    if entry.due_s is not None:
        held = ", held: its class is paused" if entry.is_held else ""
        lines.append(("due", f"{moment(entry.due_s)} (in {duration(entry.due_s - now_s)}){held}"))
    lines += [(name, _when(value, now_s)) for name, value in row["times"].items()]
    if row["crashes"]:
        lines.append(("crashes", f"{counted(row['crashes'], 'worker')} died while running it"))
    if error := error_text(row):
        lines.append(("error", error))
    return lines


def _done(besides: Besides) -> list[tuple[str, str]]:
    lines = [] if besides.told is None else [("progress", shown(besides.told))]
    lines += [("step", f"{name}: {result}") for name, result in besides.steps.items()]
    if besides.more_steps:
        lines.append(("step", f"… and {besides.more_steps:,} more"))
    return lines + [("iteration", f"{name}: {where}") for name, (where, _) in besides.iterations.items()]


def _when(epoch_s: float, now_s: float) -> str:
    return f"{moment(epoch_s)} ({duration(now_s - epoch_s)} ago)"
