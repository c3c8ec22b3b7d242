"""What the commands of `cli/look.py` do: ask the inspector, turn what it says into rows."""

from __future__ import annotations

import base64
import secrets
import sys
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Any

import msgspec
import trio

from trioworkers.broker.inspection import FIRST_PAGE, QueueLook, Source
from trioworkers.cli.desk import Desk
from trioworkers.cli.tables import Column, Rows, clean, duration, moment, number, remark, short, write_json
from trioworkers.cli.where import Where
from trioworkers.errors import NotFound
from trioworkers.wire.ask import Answer, Ask
from trioworkers.wire.entry import Entry
from trioworkers.wire.look import Process, Running

ANSWER_WITHIN_S = 3.0
Row = Mapping[str, Any]

# ── jobs in queues and sets ────────────────────────────────────────────────────────────────────────────────────────────


def row_of(entry: Entry, now_s: float) -> dict[str, Any]:
    """One entry in JSON's types. Times in epoch seconds, ages in seconds; `args` as they are spelled in the payload."""
    row: dict[str, Any] = {
        "in": entry.place,
        "queue": entry.queue,
        "jid": entry.jid,
        "class": entry.job_class,
        "args": msgspec.Raw(_on_one_line(entry.args) or b"null"),
        "attempt": entry.attempt,
        "age": None if entry.since_s is None else round(now_s - entry.since_s, 3),
        "size": len(entry.payload),
    }
    if entry.due_s is not None:
        row.update(due_at=entry.due_s, due=round(entry.due_s - now_s, 3))
    if entry.error_class or entry.error_message:
        row.update(error_class=entry.error_class, error_message=entry.error_message)
    if entry.tags:
        row["tags"] = entry.tags
    if entry.process_id:
        row["process"] = entry.process_id
    if entry.is_aside:
        row["aside"] = True
    if not entry.readable:
        row.pop("args")
        row["payload_base64"] = base64.b64encode(entry.payload).decode()
    return row


def _on_one_line(args: bytes) -> bytes:
    """`args`, valid JSON without line breaks: nobody has looked at it more closely than to find its end."""
    if args.isascii() and b"\n" not in args:
        return args
    try:
        return msgspec.json.format(args.decode(errors="replace").encode(), indent=-1)
    except (ValueError, RecursionError):
        return b""


def _args(row: Row) -> str:
    return bytes(row["args"]).decode(errors="replace") if "args" in row else "(no JSON object)"


def error_text(row: Row) -> str:
    """Class and message of the last failure."""
    return f"{row['error_class']}: {row['error_message']}" if "error_class" in row else ""


_JID = Column("jid", lambda row: row["jid"])
_CLASS = Column("class", lambda row: row["class"])
_QUEUE = Column("queue", lambda row: row["queue"])
_DUE = Column("due", lambda row: duration(row.get("due")), right=True)
_ATTEMPTS = Column("attempts", lambda row: str(row["attempt"]), right=True)
_ERROR = Column("error", lambda row: short(error_text(row), 500), wide=True)
_ARGS = Column("args", lambda row: short(_args(row), 500), wide=True)
_AGE = Column("age", lambda row: duration(row["age"]), right=True)
_COLUMNS: dict[str, Sequence[Column]] = {
    "queue": (_AGE, _JID, _CLASS, _ARGS),
    "retry": (_DUE, _JID, _CLASS, _QUEUE, _ATTEMPTS, _ERROR),
    "scheduled": (_DUE, _JID, _CLASS, _QUEUE, _ARGS),
    "dead": (_AGE, _JID, _CLASS, _QUEUE, _ATTEMPTS, _ERROR),
}


async def entries(desk: Desk, source: Source, where: Where, *, limit: int, as_json: bool) -> None:
    """The jobs in a queue or a set, page by page."""
    now_s, total = await desk.inspector.now_s(), await desk.inspector.size(source)
    rows, shown, more = Rows(_COLUMNS[source.place], as_json=as_json), 0, False
    first = limit + 1 if limit and not where else FIRST_PAGE
    async with aclosing(desk.inspector.pages(source, first)) as pages:
        async for page in pages:
            for entry in page:
                if where.matches(entry, now_s):
                    more = bool(limit) and shown == limit
                    if more:
                        break
                    rows.add(row_of(entry, now_s))
                    shown += 1
            sys.stdout.flush()
            if more:
                break
    rows.end()
    if more and where:
        remark("… and more that match: --limit 0 shows all")
    elif more:
        remark(f"… and {number(total - shown)} more: --limit 0 shows all")
    elif not shown:
        remark(f"nothing in {source}" + (" matches" if where and total else ""))


# ── queues ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

_QUEUE_COLUMNS = (
    _QUEUE,
    Column("size", lambda row: number(row["size"]), right=True),
    Column("latency", lambda row: duration(row["latency"]), right=True),
    Column("rate/s", lambda row: number(row["rate"]), right=True),
    Column("processes", lambda row: str(row["processes"]), right=True),
    Column("slots", lambda row: number(row["slots"]), right=True),
    Column(
        "", lambda row: row.get("problem") or ("paused" if row["paused"] else "" if row["processes"] else "no consumer")
    ),
)


async def queues(desk: Desk, *, as_json: bool) -> None:
    """All queues that exist, have a consumer or are paused."""
    known = {queue.name: queue for queue in await desk.inspector.queues()}
    processes = await desk.inspector.processes()
    paused = await desk.remote.paused()
    rows = Rows(_QUEUE_COLUMNS, as_json=as_json)
    names = {*known, *paused.queues, *(name for process in processes for name in process.queues)}
    for name in sorted(names):
        look = known.get(name) or QueueLook(name, 0, None, name in paused.queues)
        serving = [process for process in processes if name in process.queues]
        rows.add(
            {
                "queue": name,
                "size": look.size,
                "latency": None if look.latency_s is None else round(look.latency_s, 3),
                "rate": round(sum(process.rates.get(name, 0.0) for process in serving), 1),
                "processes": len(serving),
                "slots": sum(process.queues[name] for process in serving),
                "paused": look.paused,
                **({"problem": look.problem} if look.problem else {}),
            }
        )
    rows.end()
    if not names:
        remark("no queues: nothing was ever enqueued here")
    if paused.classes and not as_json:
        remark(f"paused classes: {', '.join(sorted(paused.classes))}")


# ── processes ──────────────────────────────────────────────────────────────────────────────────────────────────────────

_PROCESS_COLUMNS = (
    Column("process", lambda row: row["process"]),
    Column("kind", lambda row: row["kind"]),
    Column("state", lambda row: row["state"]),
    Column("busy", lambda row: f"{number(row['busy'])}/{number(row['concurrency'])}", right=True),
    Column("up", lambda row: duration(row["up"]), right=True),
    Column("beat", lambda row: duration(row["beat"]), right=True),
    Column("memory", lambda row: f"{row['rss_kb'] // 1024} MB", right=True),
    Column("queues", lambda row: " ".join(row["queues"]), wide=True),
)
_RUNNING_COLUMNS = (
    Column("for", lambda row: duration(row["for"]), right=True),
    _JID,
    _CLASS,
    _QUEUE,
    Column("process", lambda row: row["process"]),
    _ARGS,
)


async def ps(desk: Desk, wanted: str | None, *, tree: bool, limit: int, as_json: bool) -> None:
    """Processes, what they run, and where that awaits. Raises NotFound if there is no such process."""
    processes = await select_processes(desk, wanted)
    now_s = await desk.inspector.now_s()
    shown = limit or 1_000_000
    running = {process.identity: await desk.inspector.running(process, shown) for process in processes}
    trees = await _trees(desk, processes, shown) if tree else {}
    if as_json:
        for process in processes:
            jobs = [_running_row(job, now_s) for job in running[process.identity][:shown]]
            answer = trees.get(process.identity)
            extra = {"running": jobs, **({"tree": answer and answer.jobs} if tree else {})}
            write_json({**_process_row(process, now_s), **extra})
        return
    rows = Rows(_PROCESS_COLUMNS, as_json=False)
    for process in processes:
        rows.add(_process_row(process, now_s))
    rows.end()
    if not processes:
        remark("no process is running")
    if tree:
        _show_trees(processes, trees)
    else:
        _show_running([job for jobs in running.values() for job in jobs], processes, now_s, shown)


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


def _show_trees(processes: Sequence[Process], trees: Mapping[str, Answer | None]) -> None:
    for process in processes:
        sys.stdout.write(f"\n{clean(_name(process))}\n")
        answer = trees.get(process.identity)
        if not process.is_ours:
            sys.stdout.write("  not one of ours: it can't be asked\n")
        elif answer is None:
            sys.stdout.write(
                f"  no answer within {ANSWER_WITHIN_S:g} s: gone, or its event loop is blocked (its log says where)\n"
            )
        else:
            write_paragraphs(answer.jobs or ["no job running"])
            if answer.more:
                sys.stdout.write(f"  … and {answer.more:,} more: --limit 0 shows them\n")


def write_paragraphs(paragraphs: Sequence[str]) -> None:
    """Texts of several lines, indented."""
    for paragraph in paragraphs:
        for line in paragraph.split("\n"):
            sys.stdout.write(f"  {clean(line)}\n")


def _name(process: Process) -> str:
    return process.process_id or process.identity


async def select_processes(desk: Desk, wanted: str | None) -> list[Process]:
    """All, or the one of that process id, or whose identity begins so. Raises NotFound."""
    processes = await desk.inspector.processes()
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
        "kind": "trioworkers" if process.is_ours else f"sidekiq {process.version}".strip(),
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


async def _trees(desk: Desk, processes: Sequence[Process], limit: int) -> dict[str, Answer | None]:
    answers: dict[str, Answer | None] = {}

    async def ask(process: Process) -> None:
        answers[process.identity] = await tree_of(desk, process.process_id, limit=limit)

    async with trio.open_nursery() as nursery:
        for process in processes:
            if process.is_ours:
                nursery.start_soon(ask, process)
    return answers


async def tree_of(desk: Desk, process_id: str, *, jid: str = "", limit: int = 1) -> Answer | None:
    """Where a worker's jobs await; None if it doesn't answer."""
    return await desk.remote.ask(process_id, Ask(secrets.token_hex(8), "tree", jid, limit=limit), ANSWER_WITHIN_S)


# ── one job ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def show(desk: Desk, jid: str, *, as_json: bool) -> None:
    """All that is known of a job. Raises NotFound."""
    found = 0
    now_s = await desk.inspector.now_s()
    async with aclosing(desk.inspector.find(jid)) as places:
        async for entry in places:
            if entry.jid != jid:
                continue
            if found and not as_json:
                sys.stdout.write("\n")
            found += 1
            await _show_one(desk, entry, now_s, as_json=as_json)
            sys.stdout.flush()
    if not found:
        raise NotFound(f"no job {jid} in any queue or set, and none is running: it is done, was deleted, or never was")


async def _show_one(desk: Desk, entry: Entry, now_s: float, *, as_json: bool) -> None:
    answer = await tree_of(desk, entry.process_id, jid=entry.jid) if entry.place == "running" else None
    row = row_of(entry, now_s)
    row["deaths"] = await desk.inspector.deaths(entry.jid)
    row["times"] = {name.removesuffix("_at"): value for name, value in entry.times.items()}
    row["backtrace"] = entry.backtrace
    if entry.place == "running":
        row["tree"] = None if answer is None else answer.jobs
    if as_json:
        write_json({**row, **payload_fields(entry.payload)})
        return
    for title, text in _lines(entry, row, now_s):
        sys.stdout.write(f"{title:<10}  {clean(text)}\n")
    if entry.backtrace:
        sys.stdout.write("backtrace\n")
        write_paragraphs(entry.backtrace)
    if answer is not None and answer.jobs:
        sys.stdout.write("awaits\n")
        write_paragraphs(answer.jobs)
    sys.stdout.write(f"payload\n  {clean(entry.payload.decode(errors='replace'))}\n")


def _lines(entry: Entry, row: Row, now_s: float) -> list[tuple[str, str]]:
    where = {"queue": f"in queue {entry.queue}", "running": f"running on {entry.process_id}"}
    lines = [("jid", entry.jid), ("where", where.get(entry.place, f"in the {entry.place} set"))]
    lines.append(("class", entry.job_class or "(unreadable)"))
    if entry.classes[1] != entry.job_class:
        lines.append(("wrapper", entry.classes[1]))
    lines.append(("queue", entry.queue))
    if entry.tags:
        lines.append(("tags", " ".join(entry.tags)))
    lines.append(("attempts", str(entry.attempt)))
    if entry.place == "dead" and entry.score is not None:
        lines.append(("died", _when(entry.score, now_s)))
    if entry.due_s is not None:
        aside = ", put aside: its class is paused" if entry.is_aside else ""
        lines.append(("due", f"{moment(entry.due_s)} (in {duration(entry.due_s - now_s)}){aside}"))
    lines += [(name, _when(value, now_s)) for name, value in row["times"].items()]
    if row["deaths"]:
        lines.append(("deaths", f"{row['deaths']} workers died while they ran it"))
    if error := error_text(row):
        lines.append(("error", error))
    return lines


def _when(epoch_s: float, now_s: float) -> str:
    return f"{moment(epoch_s)} ({duration(now_s - epoch_s)} ago)"


def payload_fields(payload: bytes) -> dict[str, str]:
    """A payload within JSON, to the byte: as text, or in base64 where it is no UTF-8."""
    try:
        return {"payload": payload.decode()}
    except UnicodeDecodeError:
        return {"payload_base64": base64.b64encode(payload).decode()}
