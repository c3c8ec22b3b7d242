"""The process record that Sidekiq's tools read, and what our lease says: values in, texts out.

Every field that some version of Sidekiq's web page needs is there; a page of any version shows us like one of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import msgspec

from trioworkers.wire.capsule import Capsule, of_one

PROTOCOL_VERSION = "7.3.0"
"""Told where Sidekiq's record tells its version; there its tools only show it."""

LABEL = "trioworkers"
GO_WORKERS_2 = "go-workers2"
OUR_LABELS = f'"labels":["{LABEL}"]'
"""Stands so in the record of every worker of ours, and of no other."""


@attrs.frozen
class Identity:
    """One incarnation of a worker process. `boot`, `pid_space`, `started` tell, on the same machine, whether it still lives."""

    hostname: str
    pid: int
    nonce: str
    boot: str = ""
    pid_space: str = ""
    started: str = ""

    def __str__(self) -> str:
        return f"{self.hostname}:{self.pid}:{self.nonce}"


NONCE_LENGTH = 12


def is_ours_alone(process_id: str) -> bool:
    """Whether a process id is an identity, as a worker has that was given no name: no other program has it, nor another worker ever again."""
    _, _, rest = process_id.partition(":")
    pid, _, nonce = rest.rpartition(":")
    return len(nonce) == NONCE_LENGTH and set(nonce) <= set("0123456789abcdef") and pid.isascii() and pid.isdigit()


def encode_lease(identity: Identity) -> str:
    """What stands in the lease of `identity`."""
    return msgspec.json.encode(identity).decode()


def decode_lease(text: str) -> Identity | None:
    """Who holds a lease; None if somebody else's hand wrote it."""
    try:
        return msgspec.json.decode(text, type=Identity)
    except (ValueError, RecursionError):
        return None


MAX_CLASSES_BYTES = 4000
"""It goes with each heartbeat."""


def encode_classes(classes: Mapping[str, Sequence[str]]) -> bytes:
    """For whom a worker has handlers, by queue. Nothing of it if it is too long: who misses a class there would take it for unknown."""
    text = msgspec.json.encode({queue: sorted(names) for queue, names in classes.items()})
    return text if len(text) <= MAX_CLASSES_BYTES else b"{}"


@attrs.frozen
class Record:
    """What a worker tells about itself with each heartbeat. `queues`: name → concurrency; `rates`: queue → jobs settled a second."""

    identity: Identity
    process_id: str
    started_at_s: float
    queues: Mapping[str, int]
    busy: int
    quiet: bool
    beat_s: float
    rtt_us: int
    rss_kb: int
    rates: Mapping[str, float] = attrs.field(factory=dict)
    classes: bytes = b"{}"
    """See `encode_classes`."""
    capsules: Sequence[Capsule] = ()
    """Which queues share slots; none: each has its own."""
    parent: str = ""
    """The process that has started this one and others; "" for none."""
    busy_in: Mapping[str, int] = attrs.field(factory=dict)
    """Queue → jobs that run; those of which none does are missing."""
    hosts: bytes | None = None
    """See `encode_hosts`; None: no job has called any."""

    def fields(self, more: Mapping[str, str] | None = None) -> list[str | bytes]:
        """The hash's fields and values in turn; `more`: what another family wants to see there, or sees otherwise."""
        texts: dict[str, str | bytes] = {
            "info": self._info(),
            "concurrency": str(self._slots),
            "busy": str(self.busy),
            "beat": f"{self.beat_s:.6f}",
            "quiet": "true" if self.quiet else "false",
            "rtt_us": str(self.rtt_us),
            "rss": str(self.rss_kb),
            "tw_rates": msgspec.json.encode(self.rates),
            "tw_busy": msgspec.json.encode(self.busy_in),
            "tw_classes": self.classes,
        }
        if self.parent:
            texts["tw_parent"] = self.parent
        if self.hosts is not None:
            texts["tw_hosts"] = self.hosts
        texts.update(more or {})
        return [item for pair in texts.items() for item in pair]

    @property
    def _in_capsules(self) -> Sequence[Capsule]:
        return self.capsules or [of_one(queue, concurrency) for queue, concurrency in self.queues.items()]

    @property
    def _slots(self) -> int:
        return sum(capsule.concurrency for capsule in self._in_capsules)

    def _info(self) -> bytes:
        identity = str(self.identity)
        capsules = {capsule.name: capsule.shown() for capsule in self._in_capsules}
        info = {
            "hostname": self.identity.hostname,
            "started_at": self.started_at_s,
            "pid": self.identity.pid,
            "tag": "" if self.process_id == identity else self.process_id,
            "concurrency": self._slots,
            "capsules": capsules,
            "queues": list(self.queues),
            "weights": [capsule["weights"] for capsule in capsules.values()],
            "labels": [LABEL],
            "identity": identity,
            "version": PROTOCOL_VERSION,
            "embedded": False,
        }
        return msgspec.json.encode(info)


@attrs.frozen
class Info:
    """What another kind of process says of itself: what it is, and every queue that it names."""

    kind: str
    queues: frozenset[str]


def decode_info(info: bytes) -> Info | None:
    """Read the record of a process of any kind and version; None if it is none."""
    try:
        fields = msgspec.json.decode(info, type=dict[str, Any])
    except (ValueError, RecursionError):
        return None
    names = _texts(fields.get("queues"))
    capsules = fields.get("capsules")
    inside = [
        capsule.get("weights") for capsule in _dicts(list(capsules.values()) if isinstance(capsules, dict) else [])
    ]
    for weights in _dicts(fields.get("weights")) + _dicts(inside):
        names += _texts(list(weights))
    version = fields.get("version")
    if "Pid" in fields:
        kind = GO_WORKERS_2
    else:
        kind = f"Ruby Sidekiq {version}" if isinstance(version, str) else "Ruby Sidekiq"
    return Info(kind, frozenset(names))


def _texts(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _dicts(value: object) -> list[dict[Any, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def encode_running(queue: str, payload: bytes, run_at_s: float) -> bytes:
    """One running job as Sidekiq's tools read it: the payload as a string within JSON."""
    record = {"queue": queue, "payload": payload.decode(errors="replace"), "run_at": int(run_at_s)}
    return msgspec.json.encode(record)


def running_fields(running: Sequence[tuple[str, bytes]]) -> list[str | bytes]:
    """The running jobs' hash: thread id and record in turn."""
    return [item for pair in running for item in pair]
