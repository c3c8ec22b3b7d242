"""Processes that count what they do, see counted.py."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
from servers import ROOT, Server, wait_for

HERE = Path(__file__).parent
PATIENCE_S = 300.0
STILL_S = 0.2


@attrs.frozen
class Counted:
    """One of them. What is asked of it fails at once when it has ended; why it has stands on our stderr."""

    process: subprocess.Popen[str]
    file: Path

    def line(self) -> Any:
        """The next line that it says."""
        assert self.process.stdout is not None
        text = self.process.stdout.readline()
        assert text, f"it ended with status {self.process.wait()}"
        return json.loads(text)

    def figures(self) -> tuple[int, ...]:
        """What it has counted, when it has nothing to do any more."""
        found: list[tuple[int, ...]] = [()]

        def still() -> bool:
            time.sleep(STILL_S)
            assert self.process.poll() is None, f"it ended with status {self.process.poll()}"
            found.append(struct.unpack("4Q", self.file.read_bytes()))
            return found[-1] == found[-2] and found[-1][3] == 1

        wait_for(still, "the loop has nothing to do", PATIENCE_S)
        return found[-1][:3]


@contextmanager
def counted(server: Server, what: str, **more: str) -> Iterator[Counted]:
    """Start one; `more`: environment variables."""
    file = server.folder / f"figures of {what}"
    file.write_bytes(bytes(32))
    command = [sys.executable, str(HERE / "counted.py"), what, str(file)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment(server, **more))
    try:
        yield Counted(process, file)
    finally:
        process.kill()
        process.communicate()


def figures_between(before: Sequence[int], after: Sequence[int]) -> dict[str, int]:
    """By name."""
    ours, others, allocations = (b - a for a, b in zip(before, after, strict=True))
    return {"instructions": ours + others, "instructions, ours": ours, "allocations": allocations}


def environment(server: Server, **more: str) -> dict[str, str]:
    """Of a process that is counted."""
    path = os.pathsep.join([str(ROOT), str(HERE)])
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    # How strings hash decides how often sets and dicts collide.
    return {**inherited, "PYTHONPATH": path, "PYTHONHASHSEED": "0", "REDIS_URL": server.url, **more}
