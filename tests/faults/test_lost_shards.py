"""Four shards under load: one is away for longer than a lease while a worker dies, and a worker dies between two steps of the outbox. Every jid is counted."""

from __future__ import annotations

import itertools
import json
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from proxy import Proxy
from servers import Server, Worker, wait_for

from trioworkers.broker.redis.scripts import Script
from trioworkers.broker.shard_outbox import DONE, PAGE, RECEIVE

pytestmark = pytest.mark.slow
LEASE_S = 1.0
AWAY_S = 45.0
"""Longer than a lease, and than every time-out of ours (the longest waits 30 s)."""
SLOTS = 30
"""Of a worker: 20 for one queue, 10 for the other. What runs in them when it is killed runs again."""


class Four:
    """Four servers, workers of the tests' app over all of them, and what they note."""

    def __init__(self, folder: Path, run_worker: Callable[..., Worker]) -> None:
        self.servers = []
        for number in range(4):
            (folder / f"redis{number}").mkdir()
            self.servers.append(Server(folder / f"redis{number}").start())
        self.runs = folder / "runs"
        self.pushed: list[str] = []
        self._run_worker = run_worker
        self._numbers = itertools.count()

    def start(self, name: str, urls: Sequence[str] | None = None, **environment: str) -> Worker:
        urls = urls or [server.url for server in self.servers]
        options = ("--process-id", name, "--lease", str(LEASE_S), "--shutdown-timeout", "1")
        own = f"{self.servers[0].url.rpartition('/')[0]}/1"
        environment |= {"RUNS": str(self.runs), "SHARDS": ",".join(urls), "CONCURRENCY": "20"}
        return self._run_worker(own, "process_app:app", *options, **environment)

    def push(self, server: Server, count: int = 1) -> list[str]:
        """Jobs that each send one into the last shard."""
        jids = [f"p{next(self._numbers)}" for _ in range(count)]
        jobs = [json.dumps({"class": "Parent", "args": [0.01], "jid": jid, "queue": "q"}) for jid in jids]
        server.command("LPUSH", "queue:q", *jobs)
        self.pushed += jids
        return jids

    def ended(self) -> Counter[str]:
        lines = self.runs.read_text().splitlines() if self.runs.exists() else []
        return Counter(line.split()[1] for line in lines if line.startswith("end "))

    def is_empty(self) -> bool:
        for server in self.servers:
            keys = server.command("KEYS", "*")
            assert isinstance(keys, list)
            if any(key.startswith(("queue:", "retry", "tw:outbox:")) for key in keys):  # lists in progress among them
                return False
        return True

    def comes_to_rest(self) -> None:
        children = {f"{jid}-child" for jid in self.pushed}
        wait_for(lambda: {*self.pushed} | children <= self.ended().keys(), "every job comes to its end")
        wait_for(self.is_empty, "nothing is left")


@pytest.fixture
def four(tmp_path: Path, run_worker: Callable[..., Worker]) -> Iterator[Four]:
    found = Four(tmp_path, run_worker)
    yield found
    for server in found.servers:
        server.kill()


def test_one_of_four_is_away_for_longer_than_a_lease_while_a_worker_dies(four: Four):
    workers = {name: four.start(name).wait_started() for name in ("w1", "w2")}
    away, others = four.servers[1], [four.servers[0], *four.servers[2:]]
    chance = random.Random(1)
    for server in four.servers:
        four.push(server, 30)
    away.kill()
    began = time.monotonic()
    count = 0
    while time.monotonic() - began < LEASE_S * 3 or count <= 5:
        jids = four.push(chance.choice(others), 3)
        wait_for(lambda jids=jids: {*jids} <= four.ended().keys(), "the others go on")  # type: ignore[misc]
        count += 1
        if count == 5:
            workers["w1"].kill()
            workers["w1"] = four.start("w1")
    away.start()
    four.push(away, 30)
    four.comes_to_rest()
    extra = {jid: number for jid, number in four.ended().items() if number > 1}
    assert sum(extra.values()) - len(extra) <= SLOTS * 2, (
        extra
    )  # what ran when its worker was killed, or could not be written before its list was taken over


def test_last_shard_is_away_and_what_is_for_it_waits(four: Four):
    four.start("w1").wait_started()
    last = four.servers[-1]
    last.kill()
    for server in four.servers[:-1]:
        four.push(server, 40)
    wait_for(lambda: {*four.pushed} <= four.ended().keys(), "those that send to it are done")
    last.start()
    four.comes_to_rest()
    assert set(four.ended().values()) == {1}


def test_last_shard_is_away_for_long_and_the_workers_that_wrote_for_it_die(four: Four):
    """For longer than any lease and time-out of theirs; what three sources have for it is moved over by workers that never saw the jobs."""
    workers = [four.start(name).wait_started() for name in ("w1", "w2")]
    last, others = four.servers[-1], four.servers[:-1]
    last.kill()
    began = time.monotonic()
    count = 0
    while time.monotonic() - began < AWAY_S or count <= 5:
        for server in others:
            four.push(server, 5)
        wait_for(lambda: {*four.pushed} <= four.ended().keys(), "those that send to it are done")
        count += 1
        if count % 5 == 0:
            worker = workers.pop(0)
            worker.kill()
            workers.append(four.start(f"w{count}").wait_started())
    for worker in workers:
        worker.kill()
    assert all(int(str(server.command("LLEN", "tw:outbox:s3"))) > 0 for server in others)
    last.start()
    four.start("afterwards")
    four.comes_to_rest()
    starts = Counter(line.split()[1] for line in four.runs.read_text().splitlines() if line.startswith("start "))
    again = sum(number - 1 for jid, number in starts.items() if not jid.endswith("-child"))
    children = sum(number - 1 for jid, number in starts.items() if jid.endswith("-child"))
    assert again <= SLOTS * (count // 5 + 2)
    assert children <= again  # each outcome that was written sent one


def test_list_changes_under_load_while_workers_die(four: Four):
    """One is added, two are left; each worker is replaced at its own time, some by `kill -9`."""
    chance = random.Random(2)
    urls = [server.url for server in four.servers]
    versions = [
        (urls[:3], {"Q_SHARDS": "s0,s1,s2", "OTHER_SHARD": "s1"}),
        (urls, {"Q_SHARDS": "s0,s1,s2,s3", "OTHER_SHARD": "s3"}),
        (urls, {"Q_SHARDS": "s2,s3", "OTHER_SHARD": "s3"}),
        (urls, {"Q_SHARDS": "s2,s3", "OTHER_SHARD": "s2"}),
    ]
    workers: list[Worker] = []
    killed = 0
    for number, (named, environment) in enumerate(versions):
        before, workers = workers, []
        for name in "ab":
            for server in four.servers[: len(named)]:  # whoever pushes has his own list
                four.push(server, 20)
            if before:
                worker = before.pop(0)
                if chance.random() < 0.5:
                    worker.kill()
                    killed += 1
                else:
                    worker.signal(signal.SIGTERM)
                    worker.ended()
            workers.append(four.start(f"{name}{number}", named, **environment).wait_started())
            wait_for(lambda: len(four.ended()) * 2 >= len(four.pushed), "half of it is done")
    assert killed
    four.comes_to_rest()
    for server in four.servers[:2]:
        assert server.command("EXISTS", "queue:q", "queue:other", "retry", "tw:outboxes") == 0
    extra = sum(number - 1 for number in four.ended().values())
    assert extra <= SLOTS * killed


@pytest.mark.parametrize("what", ["before", "after"])
@pytest.mark.parametrize("script", [PAGE, RECEIVE, DONE], ids=lambda script: script.name)
def test_worker_dies_at_a_step_of_the_outbox(four: Four, script: Script, what: str):
    for each, server in itertools.product((PAGE, RECEIVE, DONE), four.servers):
        server.command("SCRIPT", "LOAD", each.text)
    proxies = [Proxy(server.port) for server in four.servers]
    caught = proxies[-1] if script is RECEIVE else proxies[0]
    caught.stop_at(script.sha.encode(), what)
    worker = four.start("w1", [proxy.url for proxy in proxies]).wait_started()
    four.push(four.servers[0], 40)
    wait_for(caught.caught.is_set, f"the worker comes to {script.name}")
    worker.kill()
    for proxy in proxies:
        proxy.close()
    four.start("w2")
    four.comes_to_rest()
    children = {jid: number for jid, number in four.ended().items() if jid.endswith("-child")}
    sent = Counter(line.split()[1] for line in four.runs.read_text().splitlines() if line.startswith("start "))
    assert len(children) == 40
    assert sum(number - 1 for number in sent.values()) <= SLOTS
