"""What every contestant's script in Python shares: how a job is counted, what it computes, and the commands that enqueue.

Runs in the peers' environments, so it imports the standard library only. The harness says in environment variables where Redis, the
tally and the HTTP sink are, and how many jobs run at once.
"""

from __future__ import annotations

import _thread
import json
import mmap
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

REDIS_URL = os.environ.get("BENCH_REDIS", "redis://127.0.0.1:6379/0")
FOLDER = Path(os.environ.get("BENCH_FOLDER", "."))
SINK = os.environ.get("BENCH_SINK", "")
CONCURRENCY = int(os.environ.get("BENCH_CONCURRENCY", "10"))
QUEUES = ["bench", *(f"bench{number}" for number in range(1, int(os.environ.get("BENCH_QUEUES", "1"))))]
WAIT_S = 0.05
HOLD_S = 600.0
AT_ONCE = 100
"""Tasks that enqueue at the same time, one job each."""

CALLS = ("generic", "google", "mixpanel", "segment")


class Tally:
    """How many jobs this process has run, in a file that the harness reads: it costs a job 0.2 µs, and Redis nothing."""

    def __init__(self) -> None:
        self._lock = _thread.allocate_lock()
        self._open()
        os.register_at_fork(after_in_child=self._open)

    def _open(self) -> None:
        self._count = 0
        self._cell: memoryview | None = None

    def _first(self) -> memoryview:
        with (FOLDER / f"tally.{os.getpid()}").open("wb+") as file:
            file.truncate(8)
            self._cell = memoryview(mmap.mmap(file.fileno(), 8)).cast("Q")
        return self._cell

    def count(self) -> None:
        with self._lock:
            self._count += 1
            (self._cell or self._first())[0] = self._count


count = Tally().count


def stamped(sent_ns: int) -> None:
    """Note how long ago a job was sent. Linux's monotonic clock is the same in all processes."""
    latency = time.monotonic_ns() - sent_ns
    with (FOLDER / "latencies").open("a") as file:
        file.write(f"{latency}\n")
    count()


# ── CPU work ──────────────────────────────────────────────────────────────────────────────────────────────────────────

PUZZLE = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79"


def solve(puzzle: str) -> str:
    """Brute force: the first blank, every digit that fits, then the rest."""
    grid = [int(cell) if cell != "." else 0 for cell in puzzle]
    _fill(grid)
    return "".join(map(str, grid))


def _fill(grid: list[int]) -> bool:
    if 0 not in grid:
        return True
    cell = grid.index(0)
    row, column = divmod(cell, 9)
    corner = row // 3 * 27 + column // 3 * 3
    taken = set(grid[row * 9 : row * 9 + 9]) | set(grid[column::9])
    for line in range(corner, corner + 27, 9):
        taken.update(grid[line : line + 3])
    for digit in range(1, 10):
        if digit not in taken:
            grid[cell] = digit
            if _fill(grid):
                return True
    grid[cell] = 0
    return False


# ── commands ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def arguments(count_: int, size: int) -> list[tuple[int, str]]:
    """What the jobs are called with: a number, and text that makes the payload as large as wanted."""
    text = "x" * size
    return [(number, text) for number in range(count_)]


def pauses(count_: int, mean_s: float) -> Iterator[float]:
    """Uneven pauses, the same in each run, so that no poller is met in step."""
    dice = random.Random(7)
    return (mean_s * dice.uniform(0.5, 1.5) for _ in range(count_))


def command_line(
    fill: Callable[[str, int, int], None],
    one: Callable[[str, int, int], None],
    stamp: Callable[[int, float], None],
) -> None:
    """`fill JOB COUNT SIZE` in bulk, `one JOB COUNT SIZE` each by itself, `stamp COUNT PAUSE` for latency; prints what it took.

    `fill` and `one` time themselves with `timed`, so that connecting is not in the figure.
    """
    action, *rest = sys.argv[1:]
    if action == "stamp":
        stamp(int(rest[0]), float(rest[1]))
    else:
        {"fill": fill, "one": one}[action](rest[0], int(rest[1]), int(rest[2]))
    print(json.dumps({"seconds": timed.seconds}))


class timed:  # noqa: N801 - reads as what it does: `with timed():`
    """Times the block that enqueues."""

    seconds = 0.0

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        timed.seconds = time.perf_counter() - self._began
