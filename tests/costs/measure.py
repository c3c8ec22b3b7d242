"""What a job, a call, a worker and a command cost, counted and not timed: `make costs` writes it into baseline.json.

Of several rounds the cheapest counts: now and then a wait for jobs expires within one.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import attrs

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]  # where it is a program of its own

from costs_app import AT_ONCE  # noqa: E402
from servers import ROOT, Server, blocked_fetches, wait_for  # noqa: E402
from together import answering_together  # noqa: E402

from trioworkers.broker.capsule_intake import MOST_BLOCKED  # noqa: E402

BASELINE = HERE / "baseline.json"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
PACKAGES = ("attrs", "click", "coredis", "msgspec", "trio")
"""Whose code is in the figures as well."""
PATIENCE_S = 300.0
IDLE_S = 10.0
STILL_S = 0.2
ROUNDS = 3
LARGE = 8
NAMES = {
    ("Empty", 1): "lone job",
    ("Empty", AT_ONCE): "one of 100 jobs",
    ("FanOut", 1): "job of 4 HTTP calls",
    ("Large", LARGE): f"one of {LARGE} jobs of 50 kB",
}
AT_ONE_MOMENT = "for i, key in ipairs(KEYS) do redis.call('LPUSH', key, ARGV[i]) end"
ONE_QUEUE = ("q",)
CAPSULES = {"a capsule of 3 queues": 3, "a capsule of 12 queues": 12}
"""Each queue of the first is waited for by itself; of the second it is heard when there is something in any."""


def measure() -> dict[str, float]:
    """All figures, by name."""
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder)).start()
        try:
            parts = (_of_jobs, _of_jobs_of_capsules, _of_jobs_with_a_log, _of_waiting, _of_calls, _of_a_command)
            with ThreadPoolExecutor(1) as beside:
                idle = beside.submit(_of_an_idle_worker)  # which mostly sleeps
                found = {what: figure for part in parts for what, figure in part(server).items()}
            return found | idle.result()
        finally:
            server.kill()


def versions() -> dict[str, str]:
    return {name: version(name) for name in PACKAGES}


# ── jobs ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


@attrs.frozen
class _Counted:
    """A process that counts, see counted.py."""

    process: subprocess.Popen[str]
    file: Path

    def line(self) -> Any:
        """The next line that it says."""
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def figures(self) -> tuple[int, ...]:
        """What it has counted, when it has nothing to do any more."""
        found: list[tuple[int, ...]] = [()]

        def still() -> bool:
            time.sleep(STILL_S)
            found.append(struct.unpack("4Q", self.file.read_bytes()))
            return found[-1] == found[-2] and found[-1][3] == 1

        wait_for(still, "the loop has nothing to do", PATIENCE_S)
        return found[-1][:3]


@contextmanager
def _counted(server: Server, what: str, **environment: str) -> Iterator[_Counted]:
    file = server.folder / f"figures of {what}"
    file.write_bytes(bytes(32))
    command = [sys.executable, str(HERE / "counted.py"), what, str(file)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=_environment(server, **environment))
    try:
        yield _Counted(process, file)
    finally:
        process.kill()
        process.communicate()
        server.command("FLUSHALL")


def _figures(before: Sequence[int], after: Sequence[int]) -> dict[str, int]:
    ours, others, allocations = (b - a for a, b in zip(before, after, strict=True))
    return {"instructions": ours + others, "instructions, ours": ours, "allocations": allocations}


def _cheapest(name: str, rounds: list[dict[str, int]], count: int) -> dict[str, float]:
    """For each of `count` jobs."""
    return {f"{name}: {what}": min(each[what] for each in rounds) / count for what in rounds[0]}


def _of_jobs(server: Server) -> dict[str, float]:
    found: dict[str, float] = {}
    with answering_together() as sink, _counted(server, "worker", SINK=sink) as worker:
        assert worker.line() == "started"
        for (kind, count), name in NAMES.items():
            _round(server, worker, kind, count)  # what the first ones bring in isn't the others' cost
            found |= _cheapest(name, [_round(server, worker, kind, count) for _ in range(ROUNDS)], count)
    return found


def _of_jobs_of_capsules(server: Server) -> dict[str, float]:
    found: dict[str, float] = {}
    for capsule, size in CAPSULES.items():
        queues = [f"q{number}" for number in range(1, size + 1)]
        with _counted(server, "worker", QUEUES=" ".join(queues)) as worker:
            assert worker.line() == "started"
            for count, name in {1: "lone job", AT_ONCE: f"one of {AT_ONCE} jobs"}.items():
                _round(server, worker, "Empty", count, queues)
                rounds = [_round(server, worker, "Empty", count, queues) for _ in range(ROUNDS)]
                found |= _cheapest(f"{name} of {capsule}", _without("allocations", rounds), count)
    return found


def _of_jobs_with_a_log(server: Server) -> dict[str, float]:
    """As installed: two lines a job."""
    with _counted(server, "worker", LOG=os.devnull) as worker:
        assert worker.line() == "started"
        _round(server, worker, "Empty", AT_ONCE)
        rounds = [_round(server, worker, "Empty", AT_ONCE) for _ in range(ROUNDS)]
    return _cheapest("one of 100 jobs, logged", _without("commands", rounds), AT_ONCE)


def _without(begins: str, rounds: list[dict[str, int]]) -> list[dict[str, int]]:
    return [{what: each[what] for what in each if not what.startswith(begins)} for each in rounds]


def _round(
    server: Server, worker: _Counted, kind: str, count: int, queues: Sequence[str] = ONE_QUEUE
) -> dict[str, int]:
    """What so many jobs cost, spread over the queues of the worker."""
    _settled(server, queues)
    before = worker.figures()
    with _monitor(server) as commands:
        _push(server, kind, count, queues)
        _settled(server, queues)
        after = worker.figures()
    return _figures(before, after) | commands


def _push(server: Server, kind: str, count: int, queues: Sequence[str] = ONE_QUEUE) -> None:
    args = {"Empty": [1, "two"], "Large": [1, "x" * 50_000]}.get(kind, [])
    fields = {"retry": True, "class": "Empty" if kind == "Large" else kind, "args": args}
    fields |= {"created_at": 1758000000.123, "enqueued_at": 1758000000.456}
    pushed = [(queues[number % len(queues)], f"{number:024x}") for number in range(count)]
    payloads = [json.dumps({**fields, "queue": queue, "jid": jid}) for queue, jid in pushed]
    keys = [f"queue:{queue}" for queue, _ in pushed]
    server.command("EVAL", AT_ONE_MOMENT, str(count), *keys, *payloads)


def _settled(server: Server, queues: Sequence[str]) -> None:
    """Wait until nothing waits or is in progress, and the worker waits for more."""
    blocked = len(queues) if len(queues) <= MOST_BLOCKED else 0

    def at_rest() -> bool:
        keys = server.command("KEYS", "*")
        assert isinstance(keys, list)
        waiting = {f"queue:{queue}" for queue in queues}
        busy = [key for key in keys if key in waiting or (key.endswith(":inprogress") and key != "tw:inprogress")]
        return not busy and blocked_fetches(server) == blocked

    wait_for(at_rest, "all jobs are settled", PATIENCE_S)


def _of_waiting(server: Server) -> dict[str, float]:
    def held() -> tuple[int, int]:
        worker.process.send_signal(signal.SIGUSR1)
        waiting, blocks = worker.line()
        return waiting, blocks

    with _counted(server, "holder") as worker:
        assert worker.line() == "started"
        _push(server, "Wait", 1)  # what the first one brings in isn't another one's
        wait_for(lambda: held()[0] == 1, "it waits", PATIENCE_S)
        before = held()[1]
        _push(server, "Wait", AT_ONCE - 1)
        wait_for(lambda: held()[0] == AT_ONCE, "they wait", PATIENCE_S)
        return {"job that waits: blocks of memory": (held()[1] - before) / (AT_ONCE - 1)}


def _of_calls(server: Server) -> dict[str, float]:
    found: dict[str, float] = {}
    for what, whose in {"client": "", "sync": ", sync client", "asyncio": ", asyncio client"}.items():
        rounds: dict[int, list[dict[str, int]]] = {}
        with _counted(server, what) as client:
            for line in client.process.stdout or ():
                count, before, after = json.loads(line)
                rounds.setdefault(count, []).append(_figures(before, after))
        found |= _cheapest(f"enqueue one{whose}", rounds[1][1:], 1)
        found |= _cheapest(f"enqueue, one of 100{whose}", rounds[AT_ONCE][1:], AT_ONCE)
    return found


def _environment(server: Server, **more: str) -> dict[str, str]:
    # How strings hash decides how often sets and dicts collide.
    path = os.pathsep.join([str(ROOT), str(HERE)])
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**inherited, "PYTHONPATH": path, "PYTHONHASHSEED": "0", "REDIS_URL": server.url, **more}


# ── what Redis does ────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def _monitor(server: Server) -> Iterator[dict[str, int]]:
    """Counts into the dict it gives what others than us send within the block, and what is executed, scripts' own commands included."""
    ours = ("KEYS", "INFO", "EVAL", "ECHO", "FLUSHALL")
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
                is_ours = name.upper() in ours
            if not is_ours:
                seen[source == "lua"] += 1
    found |= {"commands sent": seen[False], "commands executed": seen[False] + seen[True]}


# ── idle workers and commands ──────────────────────────────────────────────────────────────────────────────────────────


def _of_an_idle_worker() -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder)).start()
        try:
            return _of_one_that_idles(server)
        finally:
            server.kill()


def _of_one_that_idles(server: Server) -> dict[str, float]:
    command = [sys.executable, "-X", "importtime", "-m", "trioworkers", "run", "costs_app:app", "--lease", "30"]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=_environment(server))
        try:
            wait_for(lambda: blocked_fetches(server) == 1, "it waits for jobs", PATIENCE_S)
            time.sleep(5)  # it looks around at first
            _wait_between_chores(server)
            with _monitor(server) as commands:
                time.sleep(IDLE_S)
            status = Path(f"/proc/{process.pid}/status")
            memory_kb = int(re.search(r"RssAnon:\s+(\d+)", status.read_text())[1]) if status.exists() else None  # type: ignore[index]
        finally:
            process.kill()
            process.wait()
        log.seek(0)
        figures = {"idle worker: modules": float(len(_imported(log.read())))}
    for what, count in commands.items():
        figures[f"idle worker: {what} a second"] = count / IDLE_S
    return figures | ({"idle worker: memory of its own, MB": memory_kb / 1000} if memory_kb else {})


def _wait_between_chores(server: Server) -> None:
    """They come all at once: where a window began or ended just then, one round more would be counted, or less."""

    def looks() -> list[str]:
        return re.findall(r"cmdstat_evalsha:calls=(\d+)", str(server.command("INFO", "commandstats")))

    before = looks()
    wait_for(lambda: looks() != before, "it looks for due jobs", PATIENCE_S)
    time.sleep(1)


def _of_a_command(server: Server) -> dict[str, float]:
    command = [sys.executable, "-X", "importtime", "-m", "trioworkers", "queues"]
    done = subprocess.run(command, env=_environment(server), capture_output=True, text=True, check=True)
    return {"command that looks: modules": len(_imported(done.stderr))}


def _imported(importtime: str) -> set[str]:
    return set(re.findall(r"^import time: .*\| +(\S+)$", importtime, re.MULTILINE))


def main() -> None:
    """Write this Python's figures."""
    found = {what: round(figure, 2) for what, figure in measure().items()}
    known = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}  # others may have written theirs meanwhile
    known[PYTHON] = {"with": versions(), "figures": found}
    BASELINE.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n")
    for what, figure in known[PYTHON]["figures"].items():
        print(f"{what:45}{figure:12,.2f}")


if __name__ == "__main__":
    main()
