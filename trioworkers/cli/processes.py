"""What `run --processes` does: how many, how large, and the supervisor with its children. Imports no Trio and no App."""

from __future__ import annotations

import math
import os
import re
import secrets
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from trioworkers.cli.processes_page import Page, Web
from trioworkers.cli.served_queues import Only
from trioworkers.errors import ConfigurationError, WrongUsage
from trioworkers.identity import PARENT
from trioworkers.process.health import read_address, serving_health
from trioworkers.process.life import Life
from trioworkers.process.log_turn import begin_turns
from trioworkers.process.notify import Notifier
from trioworkers.process.supervisor import Supervisor

MOST = 1000
MAX_TEXT = 40
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
SMALLEST = 32 << 20
"""No worker is as small: it would be replaced for ever."""


def read_count(text: str) -> int:
    """--processes: a number, `auto` for one a core, `0.5x` for that share of the cores. Raises WrongUsage."""
    try:
        if text == "auto":
            return cores()
        if text.endswith("x") and 0 < (share := float(text[:-1])) < math.inf:
            return max(1, min(MOST, round(share * cores())))
        if text.isascii() and text.isdigit() and 0 < int(text[:9]) <= MOST:
            return int(text)
    except ValueError:
        pass
    raise WrongUsage(
        f"--processes is a number from 1 to {MOST}, auto (one a core) or 0.5x (half the cores), not {text!r:.80}"
    )


def read_size(text: str) -> int:
    """--max-rss: bytes, or with K, M, G. Raises WrongUsage."""
    found = _SIZE.fullmatch(text.strip()) if len(text) < MAX_TEXT else None
    size = int(float(found[1]) * _UNITS[found[2].upper()]) if found else 0
    if size < SMALLEST:
        raise WrongUsage(f"--max-rss is a size from {SMALLEST >> 20}M on, like 600M or 1.5G, not {text!r:.80}")
    return size


def cores(groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """Those that this process may use: by affinity, and by the quota of its container or systemd unit, rounded up.

    `groups`: where control groups are, `own`: which is this process's.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([count, *(math.ceil(quota) for quota in _quotas(groups, own))]))


def _quotas(groups: Path, own: Path) -> Iterator[float]:
    """In cores. Each group above ours may have one, as far up as we see: in a container ours is the root."""
    try:
        path = next((line[3:] for line in own.read_text().splitlines() if line.startswith("0::/")), "/")
    except OSError:
        path = "/"
    places = [groups / path[1:], *(groups / path[1:]).parents] if ".." not in path else [groups]
    for place in places:
        with suppress(OSError, ValueError, ZeroDivisionError):  # no such file, or `max`
            quota, period = (place / "cpu.max").read_text().split()
            yield int(quota) / int(period)
    with suppress(OSError, ValueError, ZeroDivisionError):  # version 1; -1: none
        if (quota_us := int((groups / "cpu/cpu.cfs_quota_us").read_text())) > 0:
            yield quota_us / int((groups / "cpu/cpu.cfs_period_us").read_text())


def supervise(
    count: int,
    max_rss: int | None,
    health: str | None,
    *,
    target: str,
    redis: str | None,
    options: Mapping[str, Any],
    only: Only | None,
    log: tuple[str, str],
    web: Web | None = None,
) -> int:
    """Run until stopped. `options`: the App's, from the command line; `log`: its format and level. Returns the exit status. Raises WrongUsage."""
    base = _base()
    page = None if web is None else Page(web, target, redis, options, log)
    environment = {**os.environ, PARENT: f"{socket.gethostname()}:{os.getpid()}"}
    notifier = Notifier(environment)
    turn = begin_turns()

    def start(number: int, suffix: str) -> Life:
        name = f"{number}{suffix}"
        order = {
            "target": target,
            "redis": redis,
            "base": base,
            "suffix": f"-{name}",
            "options": dict(options),
            "only": only,
            "log_format": log[0],
            "log_level": log[1],
            "log_name": name,
            "log_turn": turn,
            "metrics": None if page is None else page.metrics,
        }
        command = [sys.executable, "-m", "trioworkers.cli.child", target]
        return Life(name, command, msgspec.json.encode(order), environment, [] if turn is None else [turn])

    start_page = None if page is None else partial(page.start, environment, turn)
    supervisor = Supervisor(count, start, notifier, max_rss, start_page)
    with ExitStack() as stack:
        if page is not None:
            stack.enter_context(page)
        if health is not None:
            try:
                stack.enter_context(serving_health(health, supervisor.health))
            except ConfigurationError as error:
                raise WrongUsage(str(error)) from None
        return supervisor.run()


def check_health(address: str | None) -> None:
    """Raise WrongUsage if it is no address."""
    if address is not None:
        try:
            read_address(address)
        except ConfigurationError as error:
            raise WrongUsage(str(error)) from None


def _base() -> str:
    """For process ids, where nobody names one: the children of this very parent find their lists again."""
    host = re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname())[:60]
    return f"{host}-{os.getpid()}-{secrets.token_hex(3)}"
