"""What `doctor` finds in the records of processes: those that a go-workers2 can't live beside, and those that are old."""

from __future__ import annotations

from collections.abc import Sequence

from trioworkers.broker.checks import Finding
from trioworkers.broker.neighbours import RECORD_S
from trioworkers.printable import as_word
from trioworkers.wire.own_record import GO_WORKERS_2
from trioworkers.wire.process_records import Process

NAMED = 3


def is_gone(process: Process, now_s: float) -> bool:
    """Whether it died and left its record. Of other kinds the record lapses; the one that go-workers2 reads stays. `now_s`: Redis's."""
    return process.is_read_by_go and now_s - process.beat_s > RECORD_S


def heartbeat_findings(processes: Sequence[Process], now_s: float) -> Sequence[Finding]:
    """Of each go-workers2: whether it can read all records here, and whether it still beats."""
    theirs = [process for process in processes if process.kind == GO_WORKERS_2]
    unread = [process for process in processes if not process.is_read_by_go]
    found = []
    if theirs and unread:
        text = f"go-workers2 ({_named(theirs)}) can't read the records of {_named(unread)}: its heartbeats end for good, and its fellows run its jobs again"
        advice = "give it a database or a namespace of its own"
        if all(process.is_ours for process in unread):
            advice += ", or each worker of ours that is named a queue of dialect goworkers"
        found.append(Finding("heartbeats", "problem", text, advice))
    for process in processes:
        if is_gone(process, now_s):
            text = f"{_named([process])} ({process.kind}) last gave a sign of life {now_s - process.beat_s:,.0f} s ago"
            advice = (
                "is it dead? then wait: another worker removes its record; else its heartbeats have ended: restart it"
            )
            found.append(Finding("heartbeats", "warning", text, advice))
    return found or [Finding("heartbeats", "ok", "each kind of process can read the records of the others")]


def _named(processes: Sequence[Process]) -> str:
    names = sorted(as_word(process.process_id or process.identity) for process in processes)
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
