"""Counts what Redis is sent and what it executes."""

from __future__ import annotations

import re
import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from servers import Server

from trioworkers.broker.redis.scripts import Script

OURS = ("KEYS", "INFO", "EVAL", "ECHO", "FLUSHALL")
"""What the tests send."""


@contextmanager
def monitored(server: Server, scripts: Sequence[Script] = ()) -> Iterator[dict[str, int]]:
    """Counts into the dict it gives what others than us send within the block, and what is executed, scripts' own commands included.

    `scripts`: those of which the most that one run executes is counted, too.
    """
    found: dict[str, int] = {f"commands executed, {script.name}": 0 for script in scripts}
    by_sha = {script.sha: f"commands executed, {script.name}" for script in scripts}
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(b"MONITOR\r\n")
        lines = connection.makefile("r", errors="replace")
        lines.readline()
        yield found
        server.command("ECHO", "end of the block")
        seen: Counter[bool] = Counter()
        is_ours, script, executed = True, None, 0
        for line in lines:
            source, name, first = re.fullmatch(r'\+[\d.]+ \[\d+ (\S+)\] "([^"]*)"(?: "([^"]*)")?.*\n', line).groups()  # type: ignore[union-attr]
            if name == "ECHO":
                break
            if source != "lua":  # else it belongs to the script before it
                is_ours = name.upper() in OURS
                script, executed = by_sha.get(first), 0
            executed += 1
            if script is not None:
                found[script] = max(found[script], executed)
            if not is_ours:
                seen[source == "lua"] += 1
    found |= {"commands sent": seen[False], "commands executed": seen[False] + seen[True]}
