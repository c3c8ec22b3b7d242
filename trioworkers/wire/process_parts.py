"""One process that works at several Redises has a record at each. Here they are one again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import attrs

from trioworkers.wire.process_records import Process

N = TypeVar("N", int, float)


@attrs.frozen
class Parts:
    """One process: `whole` is what it is in all shards together, `at` its record in each. A process at one Redis has one, and is that."""

    whole: Process
    at: Mapping[str, Process]


def together(there: Mapping[str, Sequence[Process]]) -> list[Parts]:
    """The processes of these shards, each once; "" is no shard, but the one Redis there is. Two that have the same name in one shard are two, whatever else they share."""
    several = "" not in there
    found: dict[tuple[str, ...], list[tuple[str, Process]]] = {}
    for shard, processes in there.items():
        for process in processes:
            key = (process_of(process), process.process_id) if _is_named(process) else (process_of(process),)
            found.setdefault(key if several and process.is_ours else (process.identity, shard), []).append(
                (shard, process)
            )
    parts: list[Parts] = []
    for each in found.values():
        at = dict(each)
        if len(at) == len(each):
            is_part = several and each[0][1].is_ours
            parts.append(Parts(_whole(list(at.values())) if is_part else each[0][1], at))
        else:
            parts += [Parts(process, {shard: process}) for shard, process in each]
    return parts


def process_of(process: Process) -> str:
    """Its host and pid, which are the same wherever it works; at each Redis its identity ends differently."""
    return process.identity.rpartition(":")[0] or process.identity


def _is_named(process: Process) -> bool:
    return process.process_id not in ("", process.identity)


def _whole(parts: Sequence[Process]) -> Process:
    """They share slots and memory; jobs, queues and rates are each one's own. It is as late with its heartbeat as the latest of them."""
    first = parts[0]
    return attrs.evolve(
        first,
        identity=process_of(first),
        process_id=first.process_id if _is_named(first) else process_of(first),
        queues={name: max(each.queues.get(name, 0) for each in parts) for part in parts for name in part.queues},
        concurrency=max(each.concurrency for each in parts),
        busy=sum(each.busy for each in parts),
        quiet=all(each.quiet for each in parts),
        beat_s=min(each.beat_s for each in parts),
        started_at_s=min(each.started_at_s for each in parts),
        rss_kb=max(each.rss_kb for each in parts),
        rates=_summed([each.rates for each in parts]),
        busy_in=_summed([each.busy_in for each in parts]),
    )


def _summed(each: Sequence[Mapping[str, N]]) -> dict[str, N]:
    found: dict[str, N] = {}
    for counts in each:
        for name, count in counts.items():
            found[name] = found[name] + count if name in found else count
    return found
