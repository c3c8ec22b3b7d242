"""`make bench-scaling`: two processes beside one, Sentinel and Cluster beside a plain address, and the model beside what was measured.

Rates are of a window in the middle of a backlog, so that neither start nor end is in them; CPU is the worker processes' own, in that window. Each ratio is of
runs that took turns. With `--short`, as `make bench` calls it, each is measured twice and idle workers not at all.

Redis and the sink that fan-outs call are on the same cores: what all of them use for a job says how many jobs these cores allow, beside which is told how many they
did. On a busy machine two processes find no second core: trust the CPU per job.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import attrs
from model import Costs, jobs_per_second
from processes import cpu_s
from quick import show, spread
from store import Store, private_store, server_program

HERE = Path(__file__).parent
ROUNDS, SHORT_ROUNDS = 3, 2
FROM, TO = 0.2, 0.9
"""Of the backlog: where the window begins and ends."""


@attrs.frozen
class Work:
    """`jobs` of one class, so many at once in all processes together, or in each."""

    job_class: str
    jobs: int
    at_once: int
    in_each: bool = False


WORKS = {
    "empty jobs": Work("Empty", 60_000, 1000),
    # 1000 slots would end at 20,000 a second, hardly more than one process does.
    "50 ms waits": Work("Wait", 40_000, 2000),
    "fan-out, 100 at once": Work("FanOut", 4_000, 100),
    # As `--processes 2` does it, with whatever slots the App gives a queue.
    "fan-out, 100 in each": Work("FanOut", 5_000, 100, in_each=True),
    "fan-out, 1000 at once": Work("FanOut", 6_000, 1000),
}


@attrs.frozen
class Measured:
    """Jobs a second; CPU of all worker processes, of Redis and of the sink per job, in µs; commands sent per job."""

    rate: float
    cpu_us: float
    redis_us: float
    sink_us: float
    sent: float

    @property
    def allowed(self) -> float:
        """Jobs a second that would leave no core of this machine idle."""
        return (os.cpu_count() or 1) * 1e6 / (self.cpu_us + self.redis_us + self.sink_us)


@attrs.frozen
class Sink:
    """The HTTP server that fan-outs call."""

    port: int
    pid: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="in two minutes instead of four")
    rounds = SHORT_ROUNDS if (short := parser.parse_args().short) else ROUNDS
    with sink() as server:
        with private_store() as store:
            for what, work in WORKS.items():
                compare_processes(store, what, work, server, rounds)
            if not short:
                upkeep(store)
        addresses(server, rounds)


def compare_processes(store: Store, what: str, work: Work, server: Sink, rounds: int) -> None:
    """One process, and two, in turn."""
    found: dict[int, list[Measured]] = {1: [], 2: []}
    for _ in range(rounds):
        for processes, its in found.items():
            options = ["--processes", str(processes)]
            environment = {"CONCURRENCY": str(work.at_once if work.in_each else work.at_once // processes)}
            its.append(measure(store, work, store.url, options, server, environment, processes))
    rates = {processes: [each.rate for each in its] for processes, its in found.items()}
    ratios = [two / one for one, two in zip(rates[1], rates[2], strict=True)]
    show(what, f"{spread(rates[1], '.0f')} jobs/s, two processes {spread(rates[2], '.0f')}: {spread(ratios, '.2f')}")
    for processes, its in found.items():
        told = ", ".join(
            f"{name} {statistics.median(each):.1f}"
            for name, each in (
                ("worker", [each.cpu_us for each in its]),
                ("Redis", [each.redis_us for each in its]),
                ("sink", [each.sink_us for each in its]),
            )
        )
        allowed = statistics.median(each.allowed for each in its)
        used = statistics.median(each.rate / each.allowed for each in its)
        show(f"  {processes}: CPU per job, µs", f"{told}; the cores allow {allowed:.0f} jobs/s, {used:.0%} of it done")
    expected = [
        jobs_per_second(_costs(its), processes=n, cores=os.cpu_count() or 1, shards=1) for n, its in found.items()
    ]
    show("  the model", f"{expected[1] / expected[0]:.2f} without a sink")


def addresses(server: Sink, rounds: int) -> None:
    """What a job costs at a plain address, under a Sentinel, in a cluster."""
    found: dict[str, list[Measured]] = {"plain": [], "Sentinel": [], "Cluster": []}
    cluster = ("--cluster-enabled", "yes", "--cluster-port", "0", "--cluster-config-file", "nodes.conf")
    with private_store() as store, sentinel(store) as watched, private_store(*cluster[:2]) as node:
        node("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        while "cluster_state:ok" not in str(node("CLUSTER", "INFO")):
            time.sleep(0.05)
        inside = ["--namespace", "{bench}"]
        for _ in range(rounds):
            work = WORKS["empty jobs"]
            found["plain"].append(measure(store, work, store.url, [], server))
            found["Sentinel"].append(measure(store, work, watched, [], server))
            url = node.url.replace("redis://", "redis+cluster://").removesuffix("/0")
            found["Cluster"].append(measure(node, work, url, inside, server, prefix="{bench}:"))
    for name, its in found.items():
        cpu, redis = [each.cpu_us for each in its], [each.redis_us for each in its]
        sent = statistics.median(each.sent for each in its)
        show(
            f"empty jobs, {name}",
            f"{spread(cpu, '.1f')} µs a job, Redis {spread(redis, '.1f')} µs, {sent:.4f} commands sent",
        )


def upkeep(store: Store, workers: int = 10, seconds: float = 10.0) -> None:
    """What workers without work cost Redis, each second."""
    with started(store, store.url, ["--processes", str(workers)], {}, workers, ""):
        time.sleep(5)
        before, began = store.cpu_s(), time.monotonic()
        time.sleep(seconds)
        per_worker = (store.cpu_s() - before) / (time.monotonic() - began) / workers
    store("FLUSHALL")
    show("idle", f"a worker costs Redis {per_worker * 1e6:.0f} µs a second")


def measure(
    store: Store,
    work: Work,
    url: str,
    options: Sequence[str],
    server: Sink,
    environment: Mapping[str, str] | None = None,
    processes: int = 1,
    prefix: str = "",
) -> Measured:
    """One run over a backlog that waits when the workers start."""
    environment = {"CONCURRENCY": str(work.at_once), "SINK": str(server.port), **(environment or {})}
    payloads = store.payloads(work.jobs, work.job_class, 1, "two")
    for first in range(0, work.jobs, 1000):
        store("LPUSH", f"{prefix}queue:bench", *payloads[first : first + 1000])
    with started(store, url, options, environment, processes, prefix) as pid:
        began = _mark(store, pid, server, work.jobs * FROM, prefix)
        ended = _mark(store, pid, server, work.jobs * TO, prefix)
    store("FLUSHALL")
    at, done, cpu, redis, its_sink, sent = (b - a for a, b in zip(began, ended, strict=True))
    return Measured(done / at, cpu / done * 1e6, redis / done * 1e6, its_sink / done * 1e6, sent / done)


def _mark(store: Store, pid: int, server: Sink, wanted: float, prefix: str) -> tuple[float, ...]:
    """When so many are done: that moment, how many, and what was used until then."""
    while (done := int(str(store("GET", f"{prefix}stat:processed") or 0))) < wanted:
        time.sleep(0.01)
    return time.monotonic(), done, cpu_s(pid), store.cpu_s(), cpu_s(server.pid), store.commands()[0]


@contextmanager
def started(
    store: Store, url: str, options: Sequence[str], environment: Mapping[str, str], processes: int, prefix: str
) -> Iterator[int]:
    """Workers for as long as the block lasts, which begins when all are there."""
    command = [sys.executable, "-m", "trioworkers", "run", str(HERE / "scaling_app.py"), "--redis", url]
    command += ["--log-level", "warning", "--shutdown-timeout", "0.1", *options]
    process = subprocess.Popen(command, env={**os.environ, **environment}, stderr=subprocess.DEVNULL)
    try:
        while int(str(store("SCARD", f"{prefix}processes"))) < processes:
            if process.poll() is not None:
                raise SystemExit(f"failed: {command}")
            time.sleep(0.02)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


@contextmanager
def sink() -> Iterator[Sink]:
    """One that answers after 20 ms."""
    process = subprocess.Popen(
        [sys.executable, str(HERE / "sink.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield Sink(int(process.stdout.readline()), process.pid)
    finally:
        process.communicate("")


@contextmanager
def sentinel(store: Store) -> Iterator[str]:
    """The URL of a Sentinel over that server."""
    port = store.url.rpartition(":")[2].partition("/")[0]
    with socket.socket() as any_free:
        any_free.bind(("127.0.0.1", 0))
        own = any_free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "sentinel.conf")
        config.write_text(f"port {own}\nbind 127.0.0.1\ndir {folder}\nsentinel monitor main 127.0.0.1 {port} 1\n")
        command = [server_program(), str(config), "--sentinel"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            _wait_for(own, process)
            yield f"redis+sentinel://127.0.0.1:{own}/main/0"
        finally:
            process.terminate()
            process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Until it answers there; a worker would wait for ever for one that doesn't."""
    for _ in range(100):
        if process.poll() is not None:
            break
        with suppress(ConnectionRefusedError):
            Store(port, process.pid)
            return
        time.sleep(0.05)
    raise SystemExit(f"no Sentinel at 127.0.0.1:{port}")


def _costs(its: Sequence[Measured]) -> Costs:
    return Costs(statistics.median(each.cpu_us for each in its), statistics.median(each.redis_us for each in its))


if __name__ == "__main__":
    main()
