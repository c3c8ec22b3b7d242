"""What tests with real workers say: push jobs, count their runs, and check at the end that

N  nothing is lost,          D  no job ran more often than the fault excuses,
S  nothing is stuck,         T  how long it took from the end of the fault to the next job (reported, not asserted),
R  tasks, pool slots, descriptors and children of each living worker are where they are in a fresh one.
"""

from __future__ import annotations

import ast
import inspect
import json
import pkgutil
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Protocol

import attrs
from servers import Worker, wait_for

from trioworkers import broker
from trioworkers.broker.redis.scripts import Script
from trioworkers.registry import may_stay

SOCKETS_TO_SPARE = 4
"""A worker's sending client keeps up to so many idle sockets that one without work has not opened."""

TASKS_OF_A_SOCKET = 3


@attrs.frozen
class Held:
    """What a worker process holds of what may leak."""

    tasks: int
    slots: int
    descriptors: int


@attrs.define
class Measured:
    """What a fault case found out, for the table at the end of the run."""

    jobs: int = 0
    runs: int = 0
    extra_runs: int = 0
    recovery_s: float | None = None


class Asked(Protocol):
    """Whom the tests ask what is in Redis."""

    def command(self, *words: object) -> object:
        """See `Server.command`."""


class Jobs:
    """What the test enqueued, and what became of it."""

    def __init__(self, server: Asked, folder: Path) -> None:
        self.server = server
        self.runs = folder / "runs"
        self.payloads: dict[str, str] = {}
        self.workers: list[Worker] = []
        self.baseline: Callable[[], Held] | None = None
        self.measured = Measured()
        self._fault_over_at: float | None = None

    def push(self, count: int, job_class: str, *args: object, **fields: object) -> None:
        """Enqueue jobs of `job_class`."""
        self.server.command("SADD", "queues", "q")
        self.server.command("LPUSH", "queue:q", *self._fresh(count, job_class, args, fields))

    def push_when_possible(self, count: int, job_class: str, *args: object) -> None:
        """Enqueue jobs as soon as the server takes them."""
        fresh = self._fresh(count, job_class, args, {})

        def pushed() -> bool:
            try:
                self.server.command("LPUSH", "queue:q", *fresh)
            except (OSError, AssertionError):
                return False
            return True

        wait_for(pushed, "the server takes jobs")

    def push_elsewhere(
        self, count: int, key: str, job_class: str, *args: object, score: float = 1.0, **fields: object
    ) -> None:
        """Put jobs into the sorted set (with this score) or the list at `key`."""
        fresh = self._fresh(count, job_class, args, fields)
        if key in ("retry", "schedule"):
            self.server.command("ZADD", key, *(word for payload in fresh for word in (score, payload)))
        else:
            self.server.command("LPUSH", key, *fresh)

    def _fresh(self, count: int, job_class: str, args: Iterable[object], fields: dict[str, object]) -> list[str]:
        fresh = []
        for _ in range(count):
            jid = f"{len(self.payloads):024x}"
            job = {"retry": True, "queue": "q", "class": job_class, "args": list(args), "jid": jid, **fields}
            fresh.append(json.dumps(job))
            self.payloads[jid] = fresh[-1]
        return fresh

    def counted(self, event: str) -> Counter[str]:
        lines = self.runs.read_text().splitlines() if self.runs.exists() else []
        return Counter(line.split()[1] for line in lines if line.startswith(event))

    def ran_again(self, event: str, killed: Collection[int]) -> set[str]:
        """The jobs that ran more than once although the processes that had them before were not `killed`."""
        pids: dict[str, list[int]] = {}
        for line in self.lines(event):
            pids.setdefault(line.split()[1], []).append(int(line.split()[2]))
        return {jid for jid, found in pids.items() if not {*found[:-1]} <= {*killed}}

    def pids(self) -> set[int]:
        return {int(line.split()[2]) for line in self.runs.read_text().splitlines()}

    def queued(self) -> list[str]:
        found = self.server.command("LRANGE", "queue:q", 0, -1)
        assert isinstance(found, list)
        return found

    def jids(self, sorted_set: str) -> set[str]:
        """What lies in `retry`, `schedule` or `dead`."""
        found = self.server.command("ZRANGE", sorted_set, 0, -1)
        assert isinstance(found, list)
        return {json.loads(payload)["jid"] for payload in found}

    def in_progress(self) -> int:
        return sum(int(str(self.server.command("LLEN", key))) for key in self._in_progress_lists())

    def jids_in_lists(self) -> set[str]:
        """What waits or is in progress."""
        payloads = self.queued()
        for key in self._in_progress_lists():
            found = self.server.command("LRANGE", key, 0, -1)
            assert isinstance(found, list)
            payloads += found
        return {json.loads(payload)["jid"] for payload in payloads}

    def _in_progress_lists(self) -> list[str]:
        keys = self.server.command("KEYS", "*:inprogress")
        assert isinstance(keys, list)
        return [key for key in keys if key != "tw:inprogress"]

    def expect_all_done(self, *, extra_runs: int, timeout_s: float = 60.0) -> None:
        """Nothing lost, nothing stuck, and no more than `extra_runs` runs too many."""
        wait_for(lambda: set(self.counted("end")) >= set(self.payloads), "all jobs are done", timeout_s)
        wait_for(lambda: self.in_progress() == 0 and not self.queued(), "nothing is stuck", timeout_s)
        self._measure()
        assert self.measured.extra_runs <= extra_runs
        wait_for(lambda: not self.unexplained_keys(), f"no key is left: {self.unexplained_keys()}")
        for worker in self.living():
            self._expect_nothing_held(worker)

    def fault_is_over(self) -> None:
        """From now on jobs should run again; how long it took is measured up to the first one that ends after this."""
        self._fault_over_at = time.time()

    def _measure(self) -> None:
        lines = [line.split() for line in self.runs.read_text().splitlines()]
        ends = sorted(float(line[3]) for line in lines if line[0] == "end")
        runs = sum(self.counted("start").values())
        over_at = self._fault_over_at
        recovery_s = None if over_at is None else next((at - over_at for at in ends if at > over_at), None)
        self.measured = Measured(len(self.payloads), runs, runs - len(self.payloads), recovery_s)

    def living(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.process.poll() is None]

    def unexplained_keys(self) -> set[str]:
        """Keys that a Redis whose jobs are all done has no reason to hold: all but statistics and the living workers' records.

        What dead workers leave (their lease, record, registered list) goes by expiry, or when others notice; empty lists are no keys.
        """
        keys = self.server.command("KEYS", "*")
        assert isinstance(keys, list)
        kept = re.compile(
            r"queues|processes|stat:.*|[^:]+:\d+:\w+(:work|:workers)?"
            r"|[jh]\|.*|\w+-\d+-\d+:\d+"  # Sidekiq's metrics, and what was told of them
        )
        return {
            key
            for key in keys
            if not kept.fullmatch(key) and not may_stay().fullmatch(key) and not key.startswith("filler")
        }

    def held(self, worker: Worker) -> Held:
        """What a worker holds now."""
        mine = [str(worker.process.pid)]
        before = sum(line.split()[-2:-1] == mine for line in self.lines("held"))
        worker.signal(signal.SIGUSR1)
        wait_for(
            lambda: sum(line.split()[-2:-1] == mine for line in self.lines("held")) > before, "it tells what it holds"
        )
        words = next(line for line in reversed(self.lines("held")) if line.split()[-2:-1] == mine).split()[1:4]
        return Held(*(int(word.partition("=")[2]) for word in words))

    def lines(self, event: str) -> list[str]:
        """What workers noted that begins so."""
        return (
            [line for line in self.runs.read_text().splitlines() if line.startswith(event)]
            if self.runs.exists()
            else []
        )

    def _expect_nothing_held(self, worker: Worker) -> None:
        if self.baseline is None:
            return
        fresh = self.baseline()

        def at_rest() -> bool:
            held = self.held(worker)
            more_sockets = held.descriptors - fresh.descriptors
            tasks = fresh.tasks + TASKS_OF_A_SOCKET * more_sockets
            return more_sockets <= SOCKETS_TO_SPARE and (held.tasks, held.slots) == (tasks, fresh.slots)

        wait_for(at_rest, f"{self.held(worker)} becomes what a fresh worker holds: {fresh}")
        wait_for(lambda: not children_of(worker.process.pid), "it has no children")


def children_of(parent: int) -> list[tuple[int, str]]:
    """(pid, command line) of a process's children, and of those that say that they are."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            command = (stat.parent / "cmdline").read_text()
        except OSError:
            continue
        if fields[1] == str(parent) or f"parent_pid={parent}" in command:
            found.append((int(stat.parent.name), command))
    return found


def descriptors(worker: Worker) -> int:
    return len(list(Path(f"/proc/{worker.process.pid}/fd").iterdir()))


def _is_imported(module: ModuleType, name: str) -> bool:
    parts = ast.parse(inspect.getsource(module)).body
    return any(alias.name == name for part in parts if isinstance(part, ast.ImportFrom) for alias in part.names)


def all_scripts() -> dict[str, Script]:
    """Every Lua script of the package, by the module that declares it and its name there."""
    found: dict[str, Script] = {}
    for module in pkgutil.walk_packages(broker.__path__, "trioworkers.broker."):
        loaded = import_module(module.name)
        for name, value in vars(loaded).items():
            if isinstance(value, Script) and not _is_imported(loaded, name):
                found[f"{module.name}.{name}"] = value
    return found


def group_of(leader: int) -> list[int]:
    """The living processes of a process group."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, group = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if group == str(leader) and state not in "ZX":
            found.append(int(stat.parent.name))
    return found


def computing(worker: Worker) -> list[int]:
    """The processes in which a worker's jobs compute: each leads a group."""
    return [pid for pid, command in children_of(worker.process.pid) if "compute_child" in command]
