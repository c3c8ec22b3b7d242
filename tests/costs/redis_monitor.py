"""Counts what Redis is sent and what it executes."""

from __future__ import annotations

import re
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from servers import Server

OURS = ("KEYS", "INFO", "EVAL", "ECHO", "FLUSHALL")
"""What the tests send."""


@contextmanager
def monitored(server: Server) -> Iterator[dict[str, int]]:
    """Counts into the dict it gives what others than us send within the block, and what is executed, scripts' own commands included."""
    found: dict[str, int] = {}
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(b"MONITOR\r\n")
        lines = connection.makefile("r", errors="replace")
        lines.readline()
        yield found
        server.command("ECHO", "end of the block")
        seen: Counter[bool] = Counter()
        is_ours = True
        for line in lines:
            source, name = re.fullmatch(r'\+[\d.]+ \[\d+ (\S+)\] "([^"]*)".*\n', line).groups()  # type: ignore[union-attr]
            if name == "ECHO":
                break
            if source != "lua":  # else it belongs to the script before it
                is_ours = name.upper() in OURS
            if not is_ours:
                seen[source == "lua"] += 1
    found |= {"commands sent": seen[False], "commands executed": seen[False] + seen[True]}
