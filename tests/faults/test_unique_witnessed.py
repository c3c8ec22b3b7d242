"""Unique jobs over a fleet whose workers and clients are killed: a witness looks again and again at all places at once."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
from harness import Jobs
from servers import ROOT, Server, Worker, wait_for

Start = Callable[..., Worker]
LOOK = """
local found = {}
local function add(payloads)
  for _, payload in ipairs(payloads) do
    local name, key, jid = string.match(payload, '"class":"(%a+)","args":%[(%d+)'), nil, string.match(payload, '"jid":"(%x+)"')
    key = string.match(payload, '"args":%[(%d+)')
    if name then found[#found + 1] = name .. ' ' .. key .. ' ' .. jid end
  end
end
add(redis.call('LRANGE', 'queue:q', 0, -1))
for _, list in ipairs(redis.call('HKEYS', 'tw:inprogress')) do add(redis.call('LRANGE', list, 0, -1)) end
for _, set in ipairs({'retry', 'schedule'}) do add(redis.call('ZRANGE', set, 0, -1)) end
return found
"""
"""Who is where, in one step: `CLASS KEY JID`. What is to follow in `next` is not yet."""


@attrs.define
class Witness:
    """It knows nothing of locks."""

    server: Server
    looks: int = 0
    wrong: list[str] = attrs.field(factory=list)
    _stop: threading.Event = attrs.field(factory=threading.Event)
    _thread: threading.Thread | None = None

    def look(self) -> None:
        with self.server.session() as command:
            while not self._stop.is_set():
                seen: dict[str, str] = {}
                for text in command("EVAL", LOOK, 0):
                    what, _, jid = text.rpartition(" ")
                    if seen.setdefault(what, jid) != jid:
                        self.wrong.append(f"{what}: {seen[what]} and {jid}")
                self.looks += 1
                time.sleep(0.005)

    def start(self) -> None:
        self._thread = threading.Thread(target=self.look)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()


@pytest.fixture
def start(run_worker: Callable[..., Worker], server: Server, jobs: Jobs) -> Start:
    jobs.baseline = None  # that of another app

    def begin(process_id: str, *options: str) -> Worker:
        options = ("--process-id", process_id, "--lease", "1", "--shutdown-timeout", "1", *options)
        jobs.workers.append(run_worker(server.url, "unique_app:app", *options, RUNS=str(jobs.runs)))
        return jobs.workers[-1]

    return begin


def pusher(server: Server, file: Path, count: int, keys: int, seed: int) -> subprocess.Popen[bytes]:
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    words = [server.url, str(file), str(count), str(keys), str(seed)]
    command = [sys.executable, str(ROOT / "tests" / "unique_app.py"), *words]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path})


@pytest.mark.parametrize(
    ("pushes", "pushers", "kills"),
    [(3000, 3, 3), pytest.param(100_000, 8, 40, marks=pytest.mark.slow)],
    ids=["a few", "100,000 from eight processes"],
)
def test_there_is_one_job_per_key_at_every_moment_and_no_lock_in_the_end(
    start: Start, jobs: Jobs, server: Server, tmp_path: Path, pushes: int, pushers: int, kills: int
):
    chance, witness, taken = random.Random(7), Witness(server), tmp_path / "taken"
    workers = [start(f"w{number}") for number in range(3)]
    senders = [pusher(server, taken, pushes // pushers, 150, seed) for seed in range(pushers)]
    witness.start()
    try:
        for number in range(kills):
            time.sleep(chance.uniform(0.1, 0.8))
            victim = chance.randrange(len(workers))
            workers[victim].kill()
            workers[victim] = start(f"w{victim}")
            if (
                number % 4 == 1 and senders[victim].poll() is None
            ):  # a client dies between two of its steps, and another one goes on
                senders[victim].kill()
                senders[victim].wait()
                senders.append(pusher(server, taken, pushes // pushers // 2, 150, 100 + number))
        for sender in senders:
            sender.wait(600)
        wait_for(
            lambda: server.command("EXISTS", "queue:q", "retry", "schedule", "tw:next") == 0,
            "all places are empty",
            300,
        )
        wait_for(lambda: jobs.in_progress() == 0, "nothing runs", 60)
        wait_for(lambda: server.command("EXISTS", "tw:unique", "tw:next", "tw:repairs") == 0, "no lock is left", 60)
    finally:
        witness.stop()
    assert witness.wrong == []
    assert witness.looks > 20
    ended = jobs.counted("end").keys() | jobs.jids("dead")
    accepted = set(taken.read_text().split())
    assert accepted
    assert accepted - ended == set()


def test_job_that_is_followed_by_its_like_goes_on_over_kills(start: Start, jobs: Jobs, server: Server):
    payloads = [
        f'{{"class":"Chain","args":[{key},60],"queue":"q","retry":true,"jid":"{key:024x}"}}' for key in range(5)
    ]
    server.command("SADD", "queues", "q")
    server.command("LPUSH", "queue:q", *payloads)
    for number in range(3):
        worker = start("w1").wait_started()
        time.sleep(0.3 * number)
        worker.kill()
    start("w1").wait_started()
    wait_for(
        lambda: server.command("EXISTS", "queue:q", "tw:unique", "tw:repairs") == 0, "all have come to their end", 60
    )
    assert len(jobs.counted("end")) == 5 * 61
