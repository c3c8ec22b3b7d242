"""What `trioworkers doctor` looks at outside Redis: this machine's limits, the time a supervisor gives, the App."""

from __future__ import annotations

import re
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from trioworkers.broker.checks import Finding
from trioworkers.errors import ConfigurationError

if TYPE_CHECKING:
    from trioworkers.app import App

GENERAL_FILES = 1024
SPARE_FILES = 100
"""Redis, processes for CPU work, log files and what handlers open."""

LAST_SECONDS = 2.0
"""A worker ends within its deadline and these (P3)."""

_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(min|ms|s|m|h)?")
_UNITS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def check_files(app: App | None) -> Finding:
    """Whether this process may open enough files, sockets included. For who runs the worker as we run now."""
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = GENERAL_FILES if app is None else app.http.max_connections + 2 * len(app.queues) + SPARE_FILES
    text = f"{limit} files at once, {needed} may be needed"
    if limit < needed:
        advice = f"ulimit -n {needed}" if most == resource.RLIM_INFINITY or most >= needed else f"LimitNOFILE={needed}"
        return Finding("open files", "warning", text, f"{advice}: each HTTP connection is one")
    return Finding("open files", "ok", text)


def check_grace(grace_s: float | None, source: str, shutdown_timeout_s: float) -> Finding:
    """Whether whoever stops the worker waits long enough before the kill."""
    needed_s = shutdown_timeout_s + LAST_SECONDS
    if grace_s is None:
        text = f"not checked: a worker takes up to {needed_s:g} s to stop, whoever stops it must wait so long"
        return Finding("grace period", "note", text, "say --grace SECONDS or --manifest FILE")
    text = f"{grace_s:g} s ({source}), a worker takes up to {needed_s:g} s to stop"
    if grace_s < needed_s:
        advice = f"raise it, or lower --shutdown-timeout to {max(grace_s - LAST_SECONDS, 0):g}"
        return Finding("grace period", "problem", text, advice)
    return Finding("grace period", "ok", text)


def grace_in(manifest: Path) -> tuple[float, str]:
    """`(seconds, source)`: what a Kubernetes manifest, a systemd unit or a compose file gives. Raises ConfigurationError."""
    try:
        text = manifest.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{manifest}: {getattr(error, 'strerror', None) or 'is no text'}") from error
    lines = [line.strip().removeprefix("-").lstrip() for line in text.splitlines()]
    for name, sign in (("terminationGracePeriodSeconds", ":"), ("TimeoutStopSec", "="), ("stop_grace_period", ":")):
        found = [line.removeprefix(f"{name}{sign}").strip() for line in lines if line.startswith(f"{name}{sign}")]
        values = [value.split(" #")[0] for value in found if value]
        if values:
            return min(map(_seconds, values)), f"{name} in {manifest.name}"
    for kind, begin, default_s in (
        ("Kubernetes", "containers:", 30.0),
        ("systemd", "[Service]", 90.0),
        ("compose", "services:", 10.0),
    ):
        if any(line.startswith(begin) for line in lines):
            return default_s, f"{kind}'s default, {manifest.name} gives none"
    raise ConfigurationError(f"{manifest} is no Kubernetes manifest, systemd unit or compose file that we can read")


def _seconds(text: str) -> float:
    text = text.strip().strip("\"'")
    if text == "infinity":
        return float("inf")
    parts = _SPAN.findall(text)
    if not parts or "".join(re.split(_SPAN, text)[::3]).strip():
        raise ConfigurationError(f"{text!r} is no length of time that we can read")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def check_app(app: App) -> Iterator[Finding]:
    """What the App itself says."""
    try:
        app.check()
    except ConfigurationError as error:
        yield Finding("app", "problem", str(error), "mend the program")
        return
    for queue, concurrency in app.queues.items():
        classes = ", ".join(app.classes(queue))
        yield Finding("app", "ok", f"queue {queue}: {classes}; {concurrency} at once")
