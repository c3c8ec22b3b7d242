"""What is measured: each work with its job, how many run at once, and what its figures mean."""

from __future__ import annotations

import attrs

SMALL = 150
"""Characters of text in a job's arguments; with Sidekiq's fields a payload of about 300 bytes."""

LARGE = 50_000


@attrs.frozen
class Figure:
    """One number that a work yields. `better`: which end is the good one."""

    name: str
    unit: str
    lower_is_better: bool = True


RATE = Figure("rate", "jobs/s", lower_is_better=False)
CPU = Figure("cpu", "µs CPU/job")
REDIS_CPU = Figure("redis_cpu", "µs Redis CPU/job")
SENT = Figure("sent", "commands sent/job")
EXECUTED = Figure("executed", "commands executed/job")
P50 = Figure("p50", "ms, median")
P99 = Figure("p99", "ms, 99 of 100")
IDLE = Figure("idle", "% of a core")
MEMORY = Figure("memory", "MB (PSS)")
STOP = Figure("stop", "s from the signal to the end")

THROUGHPUT = (RATE, CPU, REDIS_CPU)


@attrs.frozen
class Work:
    """One row of the result. `kind` names its procedure in `measure.py`; `at_once`: None leaves it to the contestant."""

    name: str
    title: str
    kind: str
    job: str
    figures: tuple[Figure, ...]
    at_once: int | None = None
    processes: int = 1
    queues: int = 1
    size: int = SMALL
    rounds: int | None = None
    only: tuple[str, ...] = ()
    backlog: int = 0

    @property
    def main(self) -> Figure:
        """The figure that ratios are made of."""
        return self.figures[0]


OURS = ("trioworkers",)
OURS_AND_BARE = (*OURS, "bare-loop")

WORKS = (
    Work("empty", "empty jobs, 300 B", "throughput", "empty", (*THROUGHPUT, SENT, EXECUTED)),
    Work("payload", "empty jobs, 50 KB", "throughput", "empty", THROUGHPUT, size=LARGE, rounds=2),
    Work("installed", "empty jobs as installed: two lines of the log each", "throughput", "empty", (RATE, CPU), only=OURS_AND_BARE),
    Work("wait", "50 ms of waiting, 1000 at once", "throughput", "wait", THROUGHPUT, at_once=1000),
    Work("fanout100", "4 HTTP calls of 20 ms, 100 jobs at once", "throughput", "fan_out", THROUGHPUT, at_once=100),
    Work("fanout1000", "4 HTTP calls of 20 ms, 1000 jobs at once", "throughput", "fan_out", THROUGHPUT, at_once=1000, rounds=2),
    Work("sudoku", "CPU work, 2 processes", "throughput", "sudoku", (RATE, CPU), at_once=10, processes=2, rounds=2),
    Work(
        "wait2", "50 ms of waiting, 2 processes", "throughput", "wait", THROUGHPUT, at_once=1000, processes=2, rounds=1,
        only=(*OURS, "sidekiq"),
    ),
    Work("one", "enqueue one by one", "enqueue", "empty", (RATE,)),
    Work("bulk", "enqueue in bulk", "enqueue", "empty", (RATE,)),
    Work("one_handler", "enqueue one by one, one task, `handler.job(…)`", "enqueue", "handler", (RATE,), only=OURS),
    Work("bulk_handler", "enqueue in bulk, `handler.job(…)`", "enqueue", "handler", (RATE,), only=OURS),
    Work("latency", "enqueue to start, idle worker", "latency", "stamp", (P50, P99)),
    Work("idle1", "idle worker, 1 queue", "idle", "empty", (IDLE,), rounds=1),
    Work("idle10", "idle worker, 10 queues", "idle", "empty", (IDLE,), queues=10, rounds=1),
    Work("idle50", "idle worker, 50 queues", "idle", "empty", (IDLE,), queues=50, rounds=1),
    Work("hold1000", "1,000 running jobs", "hold", "hold", (MEMORY, STOP), at_once=1000, rounds=2),
    Work("hold10000", "10,000 running jobs", "hold", "hold", (MEMORY, STOP), at_once=10_000, rounds=1),
    Work(
        "backlog1k", "backlog of 1,000", "bursts", "empty", (CPU,), rounds=2, only=OURS_AND_BARE, backlog=1000
    ),
    Work(
        "backlog1m", "backlog of 1,000,000", "throughput", "empty", (CPU, RATE, REDIS_CPU), rounds=1, only=OURS_AND_BARE,
        backlog=1_000_000,
    ),
)  # fmt: skip
