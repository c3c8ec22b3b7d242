"""Who takes part: how each is set up, started and stopped at its fastest documented settings, and what it acknowledges when."""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import attrs

from benchmarks.work import WORKS, Work

HERE = Path(__file__).parent
PEERS = HERE / "peers"
VENVS = HERE / ".venvs"

Command = Sequence[str]


@attrs.frozen
class Contestant:
    """One program under measurement.

    `worker`: the command of one worker for a work. `sender`: the command that enqueues, before `fill`, `one` or `stamp`.
    `copies`: how many workers a work with two processes takes (1: it has processes of its own). `expected`: jobs a second by
    job, a first guess of how many to prepare; later rounds know better. `cannot`: works it can't do, with the reason.
    `stop_signal`: its quickest way down. `safety`: what it acknowledges and when, for the table. `how`: the settings that differ from its defaults.
    """

    name: str
    title: str
    safety: str
    how: str
    worker: Callable[[Work], Command]
    sender: Command
    expected: Mapping[str, int]
    requirements: str | None = None
    at_once: int = 10
    copies: int = 1
    cannot: Mapping[str, str] = attrs.Factory(dict)
    environment: Mapping[str, str] = attrs.Factory(dict)
    packages: tuple[str, ...] = ()
    stop_signal: signal.Signals = signal.SIGTERM
    enqueues_in_bulk: bool = True

    @property
    def missing(self) -> str | None:
        """What is not installed, if anything."""
        if self.requirements and not (VENVS / self.requirements / "ready").exists():
            return f"its environment was not set up (see benchmarks/.venvs/{self.requirements}.log)"
        program = self.sender[0]
        return None if shutil.which(program) else f"{program} is not installed"

    def why_not(self, work: Work) -> str | None:
        """Why it does not take part in a work; None if it does."""
        if work.only and self.name not in work.only:
            return "not measured"
        if work.name == "bulk" and not self.enqueues_in_bulk:
            return "no call for many"
        return self.cannot.get(work.name)


def _script(name: str) -> str:
    return str(PEERS / name)


def _program(environment: str, name: str) -> str:
    return str(VENVS / environment / "bin" / name)


def _sender(environment: str) -> Command:
    return (_program(environment, "python"), _script(f"{environment}_app.py"))


BARE = ("empty", "payload", "installed", "wait", "backlog1m")
"""What the bare loop can do."""

ONE_QUEUE = "one queue a worker"
THREADS = "a thread a job"
ONE_JOB = "one job at a time"


def _trioworkers(work: Work) -> Command:
    options = ("--shutdown-timeout", "0") if work.kind == "hold" else ()
    if work.processes > 1 and work.job != "sudoku":  # for which it has processes of its own
        options = (*options, "--processes", str(work.processes))
    target = f"{_script('trioworkers_app.py')}:app"
    level = "info" if work.name == "installed" else "error"
    return (sys.executable, "-m", "trioworkers", "run", target, "--log-level", level, *options)


def _streaq(_: Work) -> Command:
    return (_program("streaq", "streaq"), "run", "streaq_app:worker")


def _arq(_: Work) -> Command:
    return (_program("arq", "arq"), "arq_app.Settings")


def _saq(work: Work) -> Command:
    return (_program("saq", "saq"), "saq_app.settings", "--workers", str(work.processes))


def _taskiq(work: Work) -> Command:
    at_once = str(work.at_once or 100)
    limits: tuple[str, ...] = (
        "--max-async-tasks",
        at_once,
        "--max-prefetch",
        at_once,
        "--shutdown-timeout",
        "1",
        "--no-parse",
    )
    if work.kind == "hold":
        limits += ("--wait-tasks-timeout", "0.1")
    workers = ("--workers", str(work.processes), "--log-level", "ERROR")
    return (_program("taskiq", "taskiq"), "worker", "taskiq_app:broker", *workers, *limits)


def _dramatiq(work: Work) -> Command:
    threads = 1 if work.processes > 1 else work.at_once or 32
    counts = ("--processes", str(work.processes), "--threads", str(threads))
    return (_program("dramatiq", "dramatiq"), "dramatiq_app", *counts, "--worker-shutdown-timeout", "1")


def _rq(work: Work) -> Command:
    queues = ("bench", *(f"bench{number}" for number in range(1, work.queues)))
    return (_program("rq", "rq"), "worker", "-q", "-w", "rq.worker.SimpleWorker", "-c", "rq_app", *queues)


def _celery(work: Work) -> Command:
    queues = ",".join(("bench", *(f"bench{number}" for number in range(1, work.queues))))
    pool = {"sudoku": ("prefork", 2), "empty": ("solo", 1), "payload": ("solo", 1)}.get(work.name)
    kind, count = pool or ("gevent", work.at_once or 10)
    lean = ("--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "ERROR")
    options = ("-P", kind, "-c", str(count), "-Q", queues, *lean)
    return (_program("celery", "celery"), "-A", "celery_app", "worker", *options)


def _sidekiq(work: Work) -> Command:
    queues = [word for number in range(work.queues) for word in ("-q", f"bench{number or ''}")]
    at_once = 2 if work.job == "sudoku" else work.at_once or 10
    return ("sidekiq", "-r", _script("sidekiq_app.rb"), "-c", str(at_once), "-t", "1", *queues)


CONTESTANTS = (
    Contestant(
        "trioworkers",
        "trioworkers",
        "when the outcome is written; kill -9: run again after 30 to 40 s, under the same process id at once",
        "middleware, time limit, context and statistics on; 1000 at once",
        _trioworkers,
        (sys.executable, _script("trioworkers_app.py")),
        {"empty": 40_000, "wait": 20_000, "fan_out": 1500, "sudoku": 400},
        at_once=1000,
    ),
    Contestant(
        "bare-loop",
        "bare loop",
        "nothing: the ceiling, no program to use",
        "1000 at once",
        lambda _: (sys.executable, _script("bare_loop_app.py")),
        (sys.executable, _script("trioworkers_app.py")),
        {"empty": 60_000, "wait": 20_000},
        at_once=1000,
        cannot=dict.fromkeys((work.name for work in WORKS if work.name not in BARE), "no part of it"),
    ),
    Contestant(
        "sidekiq",
        "Sidekiq (Ruby)",
        "when fetched; kill -9 loses the running jobs",
        "-c 10 for empty jobs; HTTP: Net::HTTP, a connection a thread",
        _sidekiq,
        ("ruby", _script("sidekiq_app.rb")),
        {"empty": 15_000, "wait": 8000, "fan_out": 1000, "sudoku": 200},
        copies=2,
        cannot={"hold10000": THREADS},
    ),
    Contestant(
        "taskiq",
        "taskiq",
        "when executed; kill -9: run again after 10 minutes",
        "RedisStreamBroker (in our trials faster than ListQueueBroker, which acknowledges nothing), uvloop, orjson, prefetch as many as at once, no results; HTTP: aiohttp",
        _taskiq,
        _sender("taskiq"),
        {"empty": 4000, "wait": 4000, "fan_out": 1200, "sudoku": 400},
        requirements="taskiq",
        at_once=100,
        cannot={"idle10": "one queue a broker", "idle50": "one queue a broker"},
        packages=("taskiq", "taskiq-redis"),
        enqueues_in_bulk=False,
    ),
    Contestant(
        "saq",
        "SAQ",
        "when executed; kill -9: swept and run again after the job's timeout",
        "uvloop, hiredis, no results, 100 at once; HTTP: aiohttp",
        _saq,
        _sender("saq"),
        {"empty": 3000, "wait": 3000, "fan_out": 1000, "sudoku": 400},
        requirements="saq",
        at_once=100,
        cannot={"idle10": ONE_QUEUE, "idle50": ONE_QUEUE},
        packages=("saq",),
        enqueues_in_bulk=False,
    ),
    Contestant(
        "arq",
        "arq",
        "when executed; kill -9: run again after the job's timeout",
        "poll_delay 10 ms, uvloop, hiredis, no results, 1000 at once; HTTP: aiohttp",
        _arq,
        _sender("arq"),
        {"empty": 3000, "wait": 3000, "fan_out": 1000, "sudoku": 400},
        requirements="arq",
        at_once=1000,
        copies=2,
        cannot={"idle10": ONE_QUEUE, "idle50": ONE_QUEUE},
        packages=("arq",),
        enqueues_in_bulk=False,
    ),
    Contestant(
        "streaq",
        "streaQ",
        "when executed; kill -9: run again after 60 s",
        "asyncio with uvloop, no results, 1000 at once; HTTP: httpx",
        _streaq,
        _sender("streaq"),
        {"empty": 2500, "wait": 2500, "fan_out": 500, "sudoku": 400},
        requirements="streaq",
        at_once=1000,
        copies=2,
        packages=("streaq",),
    ),
    Contestant(
        "streaq-trio",
        "streaQ on Trio",
        "as streaQ",
        "as above, on Trio",
        _streaq,
        _sender("streaq"),
        {"empty": 2500, "wait": 2500},
        requirements="streaq",
        at_once=1000,
        cannot=dict.fromkeys(
            (work.name for work in WORKS if work.name not in ("empty", "wait", "latency")), "not measured"
        ),
        environment={"BENCH_VARIANT": "trio"},
        packages=("streaq", "trio"),
    ),
    Contestant(
        "dramatiq",
        "dramatiq",
        "when executed; kill -9: run again after a minute without heartbeat",
        "32 threads for empty jobs, no Prometheus, no results; HTTP: requests, a session a thread",
        _dramatiq,
        _sender("dramatiq"),
        {"empty": 4000, "wait": 3000, "fan_out": 500, "sudoku": 400},
        requirements="dramatiq",
        cannot={"hold10000": THREADS},
        packages=("dramatiq",),
        enqueues_in_bulk=False,
    ),
    Contestant(
        "celery",
        "Celery",
        "before it runs (its default); kill -9 loses the running job",
        "solo pool for empty jobs, prefork for CPU, else gevent; no results, events, gossip, mingle or heartbeat; stopped with QUIT, since TERM waits for the jobs; HTTP: requests",
        _celery,
        _sender("celery"),
        {"empty": 2000, "wait": 1500, "fan_out": 500, "sudoku": 400},
        requirements="celery",
        packages=("celery",),
        stop_signal=signal.SIGQUIT,
        enqueues_in_bulk=False,
    ),
    Contestant(
        "rq",
        "RQ",
        "when executed; kill -9: given up as failed after its timeout",
        "SimpleWorker (no fork for each job), no results; HTTP: requests",
        _rq,
        _sender("rq"),
        {"empty": 600, "sudoku": 400},
        requirements="rq",
        copies=2,
        cannot=dict.fromkeys(("wait", "fanout100", "fanout1000", "hold1000", "hold10000"), ONE_JOB),
        packages=("rq",),
    ),
)
