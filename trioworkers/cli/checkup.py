"""What `trioworkers doctor` looks at outside Redis: this machine's limits, the time a supervisor gives, the App."""

from __future__ import annotations

import resource
from collections.abc import Iterator
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
PARENT_SECONDS = 3.0
"""The same for one of several processes, whose parent kills it then."""


def check_files(app: App | None) -> Finding:
    """Whether this process may open enough files, sockets included. For who runs the worker as we run now."""
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = GENERAL_FILES if app is None else app.http.max_connections + 2 * len(app.queues) + SPARE_FILES
    text = f"{limit} files at once, {needed} may be needed"
    if limit < needed:
        advice = f"ulimit -n {needed}" if most == resource.RLIM_INFINITY or most >= needed else f"LimitNOFILE={needed}"
        return Finding("open files", "warning", text, f"{advice}: each HTTP connection is one")
    return Finding("open files", "ok", text)


def check_grace(
    grace_s: float | None, source: str, shutdown_timeout_s: float, *, before_s: float = 0.0, several: bool = False
) -> Finding:
    """Whether whoever stops the worker waits long enough before the kill. `before_s`: what passes before it is told; `several`: with `--processes`."""
    last_s = PARENT_SECONDS if several else LAST_SECONDS
    needed_s = before_s + shutdown_timeout_s + last_s
    before = f", {before_s:g} s of them before it is told" if before_s else ""
    if grace_s is None:
        text = f"not checked: a worker takes up to {needed_s:g} s to stop{before}, whoever stops it must wait so long"
        return Finding("grace period", "note", text, "say --grace SECONDS or --manifest FILE")
    text = f"{grace_s:g} s ({source}), a worker takes up to {needed_s:g} s to stop{before}"
    if grace_s < needed_s:
        advice = f"raise it, or lower --shutdown-timeout to {max(grace_s - before_s - last_s, 0):g}"
        return Finding("grace period", "problem", text, advice)
    return Finding("grace period", "ok", text)


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
