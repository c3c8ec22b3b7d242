"""Random graphs on real workers that are killed, with an operator who deletes what is dead: each member ends as it must, none before its time."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import trio
from batches_app import BURIES, DISCARDS, member, told
from graph_shapes import random_graph
from harness import Jobs
from servers import Server, Worker, wait_for

from trioworkers import Batch, Client
from trioworkers.jobs.batch import Members

HOW = {"": "succeeded", BURIES: "deleted", DISCARDS: "discarded"}
"""How a member ends that runs; whoever is dead is deleted in the end."""


def build(chance: random.Random) -> tuple[Batch, dict[str, str], dict[str, list[str]]]:
    """A batch; how each of its members must end; and who waits for whom."""
    batch = Batch("at random", **{f"on_{event}": told.job(event) for event in ("success", "finished", "death")})
    worst = chance.choice([0, 1, 10])
    ends: dict[str, str] = {}
    waits: dict[str, list[str]] = {}
    added: list[Members] = []
    for layer in random_graph(chance, 500):
        hows = chance.choices([*HOW], [100, worst, worst], k=layer.count)
        jobs = [member.job(0.001, how) for how in hows]
        policy: Any = layer.on_failure
        before = [jid for number in layer.after for jid in added[number]]
        runs = policy == "run" or {ends[jid] for jid in before} <= {"succeeded"}
        ends |= {job.jid: HOW[how] if runs else "skipped" for job, how in zip(jobs, hows, strict=True)}
        waits |= {job.jid: before for job in jobs}
        added.append(batch.add(*jobs, after=[added[number] for number in layer.after], on_failure=policy))
    return batch, ends, waits


def check_order(lines: list[str], ends: Mapping[str, str], waits: Mapping[str, list[str]]) -> None:
    started: dict[str, int] = {}
    ended: dict[str, int] = {}
    for number, line in enumerate(lines):
        event, jid = line.split()[:2]
        (ended if event == "end" else started).setdefault(jid, number)
    for jid, how in ends.items():
        assert (jid in started) == (how != "skipped"), jid
        assert (jid in ended) == (how == "succeeded"), jid
        for before in waits[jid]:
            assert jid not in started or ended.get(before, -1) < started[jid], f"{jid} before {before} had ended"


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_graphs_end_as_they_must(run_worker: Callable[..., Worker], jobs: Jobs, server: Server, seed: int):
    chance = random.Random(seed)

    def start(name: str) -> Worker:
        options = ("--process-id", name, "--lease", "2", "--shutdown-timeout", "0.5")
        return run_worker(server.url, "batches_app:app", *options, RUNS=str(jobs.runs)).wait_started()

    built = [build(chance) for _ in range(6)]

    async def send() -> None:
        async with Client(server.url) as client:
            for batch, _, _ in built:
                await client.enqueue(batch)

    def is_over() -> bool:
        command = ["delete", "--in", "dead", "--all", "--yes", "--redis", server.url]
        subprocess.run([sys.executable, "-m", "trioworkers", *command], check=True, capture_output=True)
        return all(server.command("HGET", f"tw:batch:{batch.id}", "fired_finished") for batch, _, _ in built) and (
            server.command("ZCARD", "dead") == 0
        )

    workers = {name: start(name) for name in ("w1", "w2", "w3")}
    killed: list[int] = []
    trio.run(send)
    for _ in range(3):
        time.sleep(chance.uniform(0.2, 1.5))
        name = chance.choice([*workers])
        workers[name].kill()
        killed.append(workers[name].process.pid)
        workers[name] = start(name)
        is_over()
    wait_for(is_over, "all are over", 120)
    wait_for(lambda: server.command("LLEN", "queue:c") == 0, "the callbacks ran")
    lines = jobs.runs.read_text().splitlines()
    for batch, ends, waits in built:
        found = server.command("HGETALL", f"tw:batch:{batch.id}")
        assert isinstance(found, list)
        state = dict(zip(found[::2], found[1::2], strict=True))
        counts = {how: int(state.get(how) or 0) for how in ("succeeded", "deleted", "discarded", "skipped", "dead")}
        assert counts == {**dict.fromkeys(counts, 0), **Counter(ends.values())}
        assert ("fired_success" in state) == (set(ends.values()) <= {"succeeded"})
        assert ("fired_death" in state) == ("deleted" in ends.values())
        check_order(lines, ends, waits)
    assert server.command("ZCARD", "tw:successors") == server.command("LLEN", "tw:moving") == 0
    assert len(jobs.counted("finished")) == len(built)
    assert jobs.ran_again("finished", killed) == set()
