"""What a job, a call, a worker and a command cost, counted and not timed: `make costs` writes it into baseline.json.

Of several rounds the cheapest counts: now and then a wait for jobs expires within one.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]  # where it is a program of its own

from costs_app import AT_ONCE  # noqa: E402
from counted_process import PATIENCE_S, Counted, counted, figures_between  # noqa: E402
from idle_worker import of_a_command, of_an_idle_worker  # noqa: E402
from redis_monitor import monitored  # noqa: E402
from servers import Server, blocked_fetches, wait_for  # noqa: E402
from together import answering_together  # noqa: E402

from trioworkers.broker.capsule_intake import MOST_BLOCKED  # noqa: E402

BASELINE = HERE / "baseline.json"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
PACKAGES = ("attrs", "click", "coredis", "msgspec", "trio")
"""Whose code is in the figures as well."""
ROUNDS = 3
LARGE = 8
AT_ONE_MOMENT = "for i, key in ipairs(KEYS) do redis.call('LPUSH', key, ARGV[i]) end"


def count(path: str) -> dict[str, float]:
    """The figures of one path, by name."""
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder)).start()
        try:
            return {f"{path}: {what}": figure for what, figure in PATHS[path](server).items()}
        finally:
            server.kill()


def versions() -> dict[str, str]:
    return {name: version(name) for name in PACKAGES}


# ── jobs ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _of_jobs(
    server: Server, *, kind: str = "Empty", count: int = 1, queues: Sequence[str] = (), **environment: str
) -> dict[str, float]:
    """What one of `count` jobs costs that are there at once. `queues`: of one capsule, over which they are spread."""
    capsule = {"QUEUES": " ".join(queues)} if queues else {}
    with counted(server, "worker", **capsule, **environment) as worker:
        assert worker.line() == "started"
        # What the first ones bring in isn't the others' cost.
        rounds = [_round(server, worker, kind, count, queues or ["q"]) for _ in range(1 + ROUNDS)][1:]
    return _cheapest(rounds, count)


def _cheapest(rounds: list[dict[str, int]], count: int) -> dict[str, float]:
    """For each of `count` jobs."""
    return {what: min(each[what] for each in rounds) / count for what in rounds[0]}


def _of_calling_jobs(server: Server) -> dict[str, float]:
    with answering_together() as sink:
        return _of_jobs(server, kind="FanOut", SINK=sink)


def _of_jobs_of_a_capsule(server: Server, *, size: int, count: int) -> dict[str, float]:
    found = _of_jobs(server, count=count, queues=[f"q{number}" for number in range(1, size + 1)])
    return {what: figure for what, figure in found.items() if what != "allocations"}


def _round(server: Server, worker: Counted, kind: str, count: int, queues: Sequence[str]) -> dict[str, int]:
    """What so many jobs cost, spread over the queues of the worker."""
    _settled(server, queues)
    before = worker.figures()
    with monitored(server) as commands:
        _push(server, kind, count, queues)
        _settled(server, queues)
        after = worker.figures()
    return figures_between(before, after) | commands


def _push(server: Server, kind: str, count: int, queues: Sequence[str]) -> None:
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


def _of_waiting_jobs(server: Server) -> dict[str, float]:
    def held() -> tuple[int, int]:
        worker.process.send_signal(signal.SIGUSR1)
        waiting, blocks = worker.line()
        return waiting, blocks

    with counted(server, "holder") as worker:
        assert worker.line() == "started"
        _push(server, "Wait", 1, ["q"])  # what the first one brings in isn't another one's
        wait_for(lambda: held()[0] == 1, "it waits", PATIENCE_S)
        before = held()[1]
        _push(server, "Wait", AT_ONCE - 1, ["q"])
        wait_for(lambda: held()[0] == AT_ONCE, "they wait", PATIENCE_S)
        return {"blocks of memory": (held()[1] - before) / (AT_ONCE - 1)}


def _of_calls(server: Server, *, client: str, count: int) -> dict[str, float]:
    """What one of `count` jobs costs who sends them at once."""
    with counted(server, client, COUNT=str(count)) as process:
        rounds = [figures_between(*process.line()) for _ in range(ROUNDS)]
    return _cheapest(rounds, count)


# ── all ────────────────────────────────────────────────────────────────────────────────────────────────────────────────

PATHS: dict[str, Callable[[Server], dict[str, float]]] = {
    "lone job": _of_jobs,
    f"one of {AT_ONCE} jobs": partial(_of_jobs, count=AT_ONCE),
    f"one of {AT_ONCE} jobs, logged": partial(_of_jobs, count=AT_ONCE, LOG=os.devnull),  # as installed: two lines a job
    "job of 4 HTTP calls": _of_calling_jobs,
    f"one of {LARGE} jobs of 50 kB": partial(_of_jobs, kind="Large", count=LARGE),
    # Each of 3 queues is waited for by itself; of 12 it is heard when there is something in any.
    "lone job of a capsule of 3 queues": partial(_of_jobs_of_a_capsule, size=3, count=1),
    f"one of {AT_ONCE} jobs of a capsule of 3 queues": partial(_of_jobs_of_a_capsule, size=3, count=AT_ONCE),
    "lone job of a capsule of 12 queues": partial(_of_jobs_of_a_capsule, size=12, count=1),
    f"one of {AT_ONCE} jobs of a capsule of 12 queues": partial(_of_jobs_of_a_capsule, size=12, count=AT_ONCE),
    "job that waits": _of_waiting_jobs,
    "enqueue one": partial(_of_calls, client="client", count=1),
    f"enqueue, one of {AT_ONCE}": partial(_of_calls, client="client", count=AT_ONCE),
    "enqueue one, sync client": partial(_of_calls, client="sync", count=1),
    f"enqueue, one of {AT_ONCE}, sync client": partial(_of_calls, client="sync", count=AT_ONCE),
    "enqueue one, asyncio client": partial(_of_calls, client="asyncio", count=1),
    f"enqueue, one of {AT_ONCE}, asyncio client": partial(_of_calls, client="asyncio", count=AT_ONCE),
    "command that looks": of_a_command,
    "idle worker": of_an_idle_worker,
}


def main() -> None:
    """Write this Python's figures."""
    with ThreadPoolExecutor(2) as at_once:
        found = {what: round(figure, 2) for each in at_once.map(count, PATHS) for what, figure in each.items()}
    known = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}  # others may have written theirs meanwhile
    known[PYTHON] = {"with": versions(), "figures": found}
    BASELINE.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n")
    for what, figure in known[PYTHON]["figures"].items():
        print(f"{what:45}{figure:12,.2f}")


if __name__ == "__main__":
    main()
