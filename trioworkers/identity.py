"""Who we are, and whether an earlier incarnation of us on this machine still lives: facts from the operating system."""

from __future__ import annotations

import os
import resource
import secrets
import socket
import sys
from pathlib import Path

from trioworkers.wire.own_record import NONCE_LENGTH, Identity

_PROC = Path("/proc")


def current_identity() -> Identity:
    """A fresh identity for this process: two workers in one process have two."""
    return Identity(
        hostname=os.environ.get("DYNO") or socket.gethostname(),
        pid=os.getpid(),
        nonce=secrets.token_hex(NONCE_LENGTH // 2),
        boot=_boot(),
        pid_space=_pid_space(),
        started=_started(os.getpid()),
    )


def is_certainly_dead(identity: Identity) -> bool:
    """Whether the process is known to be gone: it ran under this very kernel, among the pids that we see, and is there no more.

    False where we can't know (another machine, another container, no /proc).
    """
    if not identity.boot or identity.boot != _boot() or identity.pid_space != _pid_space():
        return False
    return not identity.started or _started(identity.pid) != identity.started


PARENT = "TRIOWORKERS_PARENT"


def parent_name() -> str:
    """Of the process that started us and others of our kind, if there is one: all that have the same belong together."""
    return os.environ.get(PARENT, "")[:200]


def rss_kb() -> int:
    """Resident memory of our process, in kilobytes."""
    try:
        return int((_PROC / "self/statm").read_text().split()[1]) * resource.getpagesize() // 1024
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak // 1024 if sys.platform == "darwin" else peak


def _boot() -> str:
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _pid_space() -> str:
    try:
        return str((_PROC / "self/ns/pid").readlink())
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When a process started, in the kernel's ticks; "" if there is none, or only its zombie."""
    try:
        state, *fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state in "ZX" else fields[18]
