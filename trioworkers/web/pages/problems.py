"""What is wrong right now, for the top of the first page: where to look, and a sentence; of what is late, why. From one look at Redis; the whole examination is `doctor`'s."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from trioworkers.broker.people.contents import QueueState
from trioworkers.cli.tables import duration
from trioworkers.web.pages.outboxes import late_outboxes
from trioworkers.web.pages.snapshot import Snapshot
from trioworkers.wire.process_records import Process
from trioworkers.wording import counted, jobs_wait

NAMED = 5
MOST = 30
LATE_S = 300.0
SILENT_S = 60.0


def consumers(processes: Sequence[Process]) -> dict[str, list[Process]]:
    """Who fetches from which queue."""
    found: dict[str, list[Process]] = {}
    for process in processes:
        for queue in process.queues:
            found.setdefault(queue, []).append(process)
    return found


def problems(snapshot: Snapshot) -> list[tuple[str, str]]:
    """All of them, or the first `MOST` and how many more."""
    redis = [("/doctor", finding.text) for finding in snapshot.redis]
    if not snapshot.processes and snapshot.totals.enqueued:
        count = snapshot.totals.enqueued
        text = f"no process runs, and {jobs_wait(count)}"
        return [*redis, ("/processes", text + _since(snapshot.queues))]
    paused = [("/queues", f"class {name} is paused: its jobs are held") for name in snapshot.paused_classes]
    found = [
        *redis,
        *_of_queues(snapshot),
        *late_outboxes(snapshot),
        *_of_hosts(snapshot),
        *_of_processes(snapshot),
        *paused,
    ]
    return found if len(found) <= MOST else [*found[:MOST], ("/doctor", f"{len(found) - MOST:,} more; ask the doctor")]


def _of_queues(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    serving = consumers([process for process in snapshot.processes if not process.quiet])
    left = [queue for queue in snapshot.queues if queue.size and not queue.paused and queue.name not in serving]
    if left:
        names = [queue.name for queue in left[:NAMED]] + (["others"] if len(left) > NAMED else [])
        where = " and ".join([", ".join(names[:-1]), names[-1]]) if names[1:] else names[0]
        count = counted(sum(queue.size for queue in left), "job")
        yield "/queues", f"{count} in {where}, and nobody fetches from there{_since(left)}"
    for queue in snapshot.queues:
        if queue.problem:
            yield "/queues", f"queue {queue.name} can't be looked at: {queue.problem}"
        elif queue.paused and queue.size:
            yield "/queues", f"{counted(queue.size, 'job')} in {queue.name}, which is paused"
        elif queue.name in serving and (queue.latency_s or 0.0) > LATE_S:
            yield _late(queue, serving[queue.name])


def _since(queues: Sequence[QueueState]) -> str:
    """How long the one has waited that is next and has waited longest, if that is long."""
    longest = max((queue.latency_s or 0.0 for queue in queues), default=0.0)
    return f": one has waited for {duration(longest)}" if longest > LATE_S else ""


def _late(queue: QueueState, serving: Sequence[Process]) -> tuple[str, str]:
    """Why what is next there isn't begun. Processes tell how many of their slots are busy, not with what."""
    text = f"what is next in {queue.name} has waited for {duration(queue.latency_s)}"
    if not all(process.is_ours for process in serving):
        return "/queues", text
    slots = sum(process.queues[queue.name] for process in serving)
    busy = sum(process.busy_in.get(queue.name, 0) for process in serving)
    if busy < slots:
        return "/limits", f"{text}, though {slots - busy:,} of its {slots:,} slots are free: is there a limit?"
    text += f": all of its {counted(slots, 'slot')} are busy"
    rate = sum(process.rates.get(queue.name, 0.0) for process in serving)
    if rate > 0:
        took = duration(queue.size / rate)
        return "/busy", f"{text}; at {rate:g} a second its {counted(queue.size, 'job')} take {took}"
    return "/busy", f"{text}, and none of its jobs has ended lately"


def _of_hosts(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    paused: dict[str, list[str]] = {}
    for process in snapshot.processes:
        for state in process.hosts:
            if state.paused_s:
                paused.setdefault(state.host, []).append(state.failure)
    for host, failures in sorted(paused.items()):
        where = f"in {len(failures):,} workers" if failures[1:] else "in one worker"
        yield "/hosts", f"calls to {host} are paused {where}, the last failed with {failures[0]}"


def _of_processes(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    for process in snapshot.processes:
        name, silent_s = process.process_id or process.identity, snapshot.now_s - process.beat_s
        if silent_s > SILENT_S:
            yield "/processes", f"process {name} was last heard of {duration(silent_s)} ago"
        if process.quiet:
            yield "/processes", f"process {name} is quiet: it fetches no more"
