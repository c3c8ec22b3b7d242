"""What processes tell about themselves, read back tolerantly: records of any Sidekiq and of ours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import msgspec

from trioworkers.wire.entry import Entry
from trioworkers.wire.go_heartbeat import HEARTBEATS_FIELD
from trioworkers.wire.hosts import HostState, decode_hosts
from trioworkers.wire.own_record import GO_WORKERS_2


@attrs.frozen
class Process:
    """One process as of its last heartbeat. `kind`: trioworkers, go-workers2, or `sidekiq VERSION`. `rates`: jobs settled per second, by queue (ours only)."""

    identity: str
    process_id: str
    is_ours: bool
    kind: str
    version: str
    queues: Mapping[str, int]
    concurrency: int
    busy: int
    quiet: bool
    beat_s: float
    started_at_s: float
    rss_kb: int
    rates: Mapping[str, float]
    classes: Mapping[str, frozenset[str]]
    """Those for which it has handlers, by queue. Ours only; a queue that is missing is one of which it doesn't tell."""
    parent: str = ""
    """What has started it and others; "" for none. Ours only."""
    zones: str = ""
    """The release of the time zone data by which it computes ticks. Of ours that declare periodic jobs only."""
    busy_in: Mapping[str, int] = attrs.field(factory=dict)
    """How many jobs of each queue run; a queue of which none does may be missing. Ours only."""
    hosts: Sequence[HostState] = ()
    """How those hosts do that its jobs call. Ours only."""
    is_read_by_go: bool = False
    """Whether its record has what go-workers2 wants of every record. Such a record doesn't lapse when its process dies."""


@attrs.frozen
class Running:
    """One running job as of its process's last heartbeat."""

    process: Process
    entry: Entry
    run_at_s: float


class _Info(msgspec.Struct, rename={"go_pid": "Pid"}):
    go_pid: Any = None
    tag: Any = ""
    labels: Any = ()
    version: Any = ""
    queues: Any = ()
    capsules: Any = None
    started_at: Any = 0
    concurrency: Any = 0


def decode_process(identity: str, record: Mapping[bytes, bytes]) -> Process:
    """The record of a process; what is missing or odd is left at nothing."""
    try:
        info = msgspec.json.decode(record.get(b"info", b"{}"), type=_Info)
    except (ValueError, RecursionError):
        info = _Info()
    labels = info.labels if isinstance(info.labels, list) else []
    is_ours = "trioworkers" in labels
    concurrency = int(_number(record.get(b"concurrency")) or _number(info.concurrency))
    return Process(
        identity=identity,
        process_id=(_string(info.tag) or identity) if is_ours else "",
        is_ours=is_ours,
        kind=_kind(info, is_ours),
        version=_string(info.version),
        queues=_queues(info, concurrency),
        concurrency=concurrency,
        busy=int(_number(record.get(b"busy"))),
        quiet=record.get(b"quiet") == b"true",
        beat_s=_number(record.get(b"beat")),
        started_at_s=_number(info.started_at),
        rss_kb=int(_number(record.get(b"rss"))),
        rates=_rates(record.get(b"tw_rates", b"{}")),
        classes=_classes(record.get(b"tw_classes", b"{}")) if is_ours else {},
        parent=record.get(b"tw_parent", b"").decode(errors="replace")[:200] if is_ours else "",
        zones=record.get(b"tw_zones", b"").decode(errors="replace")[:20] if is_ours else "",
        busy_in=_counts(record.get(b"tw_busy", b"{}")) if is_ours else {},
        hosts=decode_hosts(record.get(b"tw_hosts", b"[]")) if is_ours else (),
        is_read_by_go=HEARTBEATS_FIELD.encode() in record,
    )


def _kind(info: _Info, is_ours: bool) -> str:
    if is_ours:
        return "trioworkers"
    if info.go_pid is not None:
        return GO_WORKERS_2
    return f"sidekiq {_string(info.version)}".strip()


def decode_running(process: Process, text: bytes) -> Running | None:
    """One of a process's running jobs. The payload is a string within the JSON to newer Sidekiqs, an object to old ones."""
    try:
        fields = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        payload = bytes(fields["payload"])
        if payload.startswith(b'"'):
            payload = msgspec.json.decode(payload, type=str).encode()
        queue = msgspec.json.decode(fields["queue"], type=str)
        run_at_s = float(msgspec.json.decode(fields["run_at"], type=float))
    except (KeyError, ValueError, RecursionError):
        return None
    entry = Entry("running", payload, queue, process_id=process.process_id or process.identity)
    return Running(process, entry, run_at_s)


def _queues(info: _Info, concurrency: int) -> dict[str, int]:
    """Queue → how many of its jobs may run there at once."""
    found: dict[str, int] = {}
    capsules = info.capsules.values() if isinstance(info.capsules, dict) else ()
    for capsule in capsules:
        weights = capsule.get("weights") if isinstance(capsule, dict) else None
        if isinstance(weights, dict):
            found.update({_string(queue): int(_number(capsule.get("concurrency"))) for queue in weights})
    if not found and isinstance(info.queues, list):
        found = {_string(queue): concurrency for queue in info.queues}
    return found


def _rates(text: bytes) -> dict[str, float]:
    try:
        return msgspec.json.decode(text, type=dict[str, float])
    except (ValueError, RecursionError):
        return {}


def _counts(text: bytes) -> dict[str, int]:
    try:
        return msgspec.json.decode(text, type=dict[str, int])
    except (ValueError, RecursionError):
        return {}


def _classes(text: bytes) -> dict[str, frozenset[str]]:
    try:
        return msgspec.json.decode(text, type=dict[str, frozenset[str]])
    except (ValueError, RecursionError):
        return {}


def _number(value: object) -> float:
    try:
        found = float(value) if isinstance(value, bytes | int | float) else 0.0
    except (ValueError, OverflowError):
        return 0.0
    return found if math.isfinite(found) else 0.0


def _string(value: object) -> str:
    return value if isinstance(value, str) else ""
