"""The processes of a contestant: started, weighed and ended as a whole, with all that they start themselves."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Have whatever a contestant leaves behind become our child, so that it can be found and ended."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children_of_all() -> dict[int, list[int]]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            stat = _stat(int(entry.name))
            if stat:
                children.setdefault(int(stat[1]), []).append(int(entry.name))
    return children


def tree(*roots: int) -> list[int]:
    """The processes with their descendants."""
    children = children_of_all()
    found = list(roots)
    for pid in found:
        found.extend(children.get(pid, ()))
    return found


def cpu_s(*roots: int) -> float:
    """CPU seconds, user and system, of these processes and all they have started."""
    return sum(map(_cpu_of_one, tree(*roots)))


def memory_mb(*roots: int) -> tuple[float, float]:
    """Resident and proportional set size of the tree, in MB (10^6 bytes)."""
    resident = proportional = 0
    for pid in tree(*roots):
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:  # gone meanwhile
            continue
        sizes = {line.split(":")[0]: int(line.split()[1]) for line in lines[1:]}
        resident += sizes["Rss"]
        proportional += sizes["Pss"]
    return resident * 1024 / 1e6, proportional * 1024 / 1e6


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat behind the name: [state, parent, …]; None if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _cpu_of_one(pid: int) -> float:
    stat = _stat(pid)
    try:
        # Linux's clock of another process: nanoseconds, where /proc counts ticks of 10 ms.
        own = time.clock_gettime((~pid << 3) | 2)
    except OSError:  # gone meanwhile: its parent has it among the children it has waited for
        return 0.0
    return own + ((int(stat[13]) + int(stat[14])) * TICK_S if stat else 0.0)


class Processes:
    """The worker processes of one contestant in one measurement."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, command: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        with self.log.open("ab") as log:
            self._processes.append(
                subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=folder,
                    env={**os.environ, **environment},
                    start_new_session=True,
                )
            )

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._processes]

    @property
    def dead(self) -> bool:
        return any(process.poll() is not None for process in self._processes)

    @property
    def last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines() if self.log.exists() else []
        return " | ".join(lines[-6:])

    def stop(self, number: signal.Signals, timeout_s: float) -> float:
        """Signal them once; how many seconds they took to end. Raises subprocess.TimeoutExpired."""
        began = time.monotonic()
        for process in self._processes:
            process.send_signal(number)
        for process in self._processes:
            process.wait(max(0.0, began + timeout_s - time.monotonic()))
        return time.monotonic() - began

    def kill(self, keep: Sequence[int] = ()) -> None:
        """End them and whatever has been left to us by them; `keep`: children of ours that are none of theirs."""
        for pid in tree(*self.pids):
            _kill(pid)
        for process in self._processes:
            process.wait()
        known = {*keep, *self.pids}
        for orphan in [pid for pid in children_of_all().get(os.getpid(), ()) if pid not in known]:
            for pid in tree(orphan):
                _kill(pid)
            with suppress(ChildProcessError):
                os.waitpid(orphan, 0)


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
