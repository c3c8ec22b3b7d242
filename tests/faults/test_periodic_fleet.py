"""Ticks of a fleet that is killed, stopped and cut off: each is sent exactly once, and is in the history."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from proxy import Proxy
from servers import Server, Worker, wait_for

from trioworkers import Job
from trioworkers.broker.holds.ticks import REGISTER_CRON, TAKE_TICKS
from trioworkers.broker.redis.scripts import Script
from trioworkers.sync import Client
from trioworkers.wire.periodic import tick_in

RunWorker = Callable[..., Worker]
OPTIONS = ("--lease", "2", "--shutdown-timeout", "1")


class Fleet:
    """Workers whose ticks go to a queue that is paused, so that all of them can be counted."""

    def __init__(self, run_worker: RunWorker, server: Server, folder: Path) -> None:
        self.server = server
        self._run_worker = run_worker
        self._folder = folder
        self._number = 0
        server.command("SADD", "paused", "q")

    def start(self, url: str = "", entries: int = 2) -> Worker:
        self._number += 1
        runs = str(self._folder / "runs")
        worker = self._run_worker(
            url or self.server.url,
            "cron_app:app",
            *("--process-id", f"w{self._number}", *OPTIONS),
            RUNS=runs,
            ENTRIES=str(entries),
        )
        return worker.wait_started()

    def ticks(self) -> dict[str, list[int]]:
        """By entry its ticks, in the order in which they were sent."""
        found: dict[str, list[int]] = {}
        payloads = self.server.command("LRANGE", "queue:q", 0, -1)
        assert isinstance(payloads, list)
        for payload in reversed(payloads):
            tick = tick_in(json.loads(payload)["tw_tick"])
            assert tick is not None
            found.setdefault(tick.entry, []).append(tick.moment_s)
        return found

    def check(self) -> int:
        """Each tick once, none left out, and the last ones in the history. How many there were."""
        found = self.ticks()
        for entry, ticks in found.items():
            assert not [tick for tick, count in Counter(ticks).items() if count > 1], entry
            assert sorted(ticks) == list(range(min(ticks), max(ticks) + 1)), entry
            history = self.server.command("HKEYS", f"tw:runs:{entry}")
            payloads = self.server.command("LRANGE", "queue:q", 0, -1)
            assert isinstance(payloads, list)
            assert isinstance(history, list)
            last = [json.loads(payload)["jid"] for payload in payloads if f" {entry}" in json.loads(payload)["tw_tick"]]
            assert set(history) == set(last[: len(history)])
            assert len(history) == min(20, len(ticks))
        return sum(map(len, found.values()))


@pytest.fixture
def fleet(run_worker: RunWorker, server: Server, tmp_path: Path) -> Fleet:
    return Fleet(run_worker, server, tmp_path)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("script", [TAKE_TICKS, REGISTER_CRON], ids=lambda script: script.name)
def test_worker_that_is_killed_at_a_step_leaves_the_tick_to_others(
    fleet: Fleet, server: Server, proxy: Proxy, run_worker: RunWorker, tmp_path: Path, script: Script, when: str
):
    for each in (TAKE_TICKS, REGISTER_CRON):
        server.command("SCRIPT", "LOAD", each.text)
    proxy.stop_at(script.sha.encode(), when)
    options = ("--process-id", "victim", *OPTIONS)
    victim = run_worker(proxy.url, "cron_app:app", *options, RUNS=str(tmp_path / "runs"), ENTRIES="2")
    wait_for(proxy.caught.is_set, f"the worker comes to {script.name}")
    victim.kill()
    proxy.close()
    fleet.start()
    seen = len(fleet.ticks().get("q/Tick/each0", []))
    wait_for(lambda: len(fleet.ticks().get("q/Tick/each0", [])) >= seen + 3, "others go on")
    fleet.check()


def test_reply_that_is_lost_sends_no_tick_twice(fleet: Fleet, server: Server, proxy: Proxy):
    server.command("SCRIPT", "LOAD", TAKE_TICKS.text)
    fleet.start(proxy.url)
    for _ in range(3):
        proxy.stop_at(TAKE_TICKS.sha.encode(), "after")
        wait_for(proxy.caught.is_set, "it takes a tick")
        proxy.reset_all()
        proxy.go_on()
    seen = len(fleet.ticks()["q/Tick/each0"])
    wait_for(lambda: len(fleet.ticks()["q/Tick/each0"]) >= seen + 2, "it goes on")
    fleet.check()


def test_declaration_whose_reply_is_lost_is_made_again(
    fleet: Fleet, server: Server, proxy: Proxy, run_worker: RunWorker, tmp_path: Path
):
    for each in (TAKE_TICKS, REGISTER_CRON):
        server.command("SCRIPT", "LOAD", each.text)
    proxy.stop_at(REGISTER_CRON.sha.encode(), "after")
    worker = run_worker(proxy.url, "cron_app:app", *OPTIONS, RUNS=str(tmp_path / "runs"), ENTRIES="2")
    wait_for(proxy.caught.is_set, "it declares its entries")
    proxy.reset_all()
    proxy.go_on()
    worker.wait_started()
    wait_for(lambda: len(fleet.ticks().get("q/Tick/each1", [])) >= 2, "they are sent")
    fleet.check()


def test_three_workers_of_which_one_is_killed_and_one_frozen_send_each_tick_once(fleet: Fleet):
    workers = [fleet.start() for _ in range(3)]
    wait_for(lambda: len(fleet.ticks().get("q/Tick/each0", [])) >= 2, "they tick")
    workers[0].kill()
    workers[1].signal(signal.SIGSTOP)
    seen = len(fleet.ticks()["q/Tick/each0"])
    wait_for(lambda: len(fleet.ticks()["q/Tick/each0"]) >= seen + 3, "the third goes on")
    workers[1].signal(signal.SIGCONT)
    seen = len(fleet.ticks()["q/Tick/each0"])
    wait_for(lambda: len(fleet.ticks()["q/Tick/each0"]) >= seen + 2, "two go on")
    fleet.check()


def calls(server: Server) -> dict[str, int]:
    """How often each command was executed, those within scripts, too."""
    found = server.command("INFO", "commandstats")
    assert isinstance(found, str)
    lines = [line.partition(":") for line in found.splitlines() if line.startswith("cmdstat_")]
    return {name[8:]: int(rest.split(",")[0].removeprefix("calls=")) for name, _, rest in lines}


def test_thousand_entries_of_which_none_is_due_cost_an_idle_worker_no_command(
    run_worker: RunWorker, server: Server, tmp_path: Path
):
    for idle in ("0", "1000"):
        worker = run_worker(
            server.url,
            "cron_app:app",
            *("--process-id", "idle", "--lease", "60"),
            RUNS=str(tmp_path / "runs"),
            ENTRIES="0",
            IDLE=idle,
        ).wait_started()
        assert server.command("ZCARD", "tw:cron") == int(idle)
        if idle != "0":
            wait_for(lambda: calls(server).get("zrange", 0) > 0, "it looks when the first tick is")
        server.command("DEL", "tw:cron_news")  # by which it was told; it goes in ten seconds
        for _ in range(3):  # the looks of its beginning may still be under way
            server.command("CONFIG", "RESETSTAT")
            wait_for(lambda: calls(server).get("evalsha", 0) >= 3, "it looks three times more for due jobs")
            found = calls(server)
            if {"zrange", "zrangebyscore", "zscore"}.isdisjoint(found):
                break
        assert {"zrange", "zrangebyscore", "zscore"}.isdisjoint(found), found
        worker.signal(signal.SIGTERM)
        worker.ended()


def test_workers_that_know_of_no_tick_send_one_that_is_made_meanwhile(fleet: Fleet, server: Server):
    fleet.start(entries=0)
    looks = calls(server)["evalsha"]
    wait_for(lambda: calls(server)["evalsha"] >= looks + 3, "it goes on, and asks no more")
    with Client(server.url) as client:
        client.periodic("soon", "@every 1s", Job("q", "Tick"))
    wait_for(lambda: len(fleet.ticks().get("soon", [])) >= 2, "it is sent")


def test_doctor_tells_of_broken_entries_and_of_different_time_zone_data(
    run_worker: RunWorker, server: Server, tmp_path: Path
):
    run_worker(server.url, "cron_app:app", RUNS=str(tmp_path / "runs")).wait_started()
    findings = doctor(server)
    assert "periodic jobs" in findings
    assert "all can be read" in findings
    server.command("ZADD", "tw:cron", "inf", "forged")
    server.command("HSET", "tw:cron:forged", "definition", "junk")
    [identity] = server.command("SMEMBERS", "processes")
    fields = server.command("HGETALL", identity)
    assert "tw_zones" in fields
    server.command("HSET", "other", *fields, "tw_zones", "1999a")
    server.command("SADD", "processes", "other")
    findings = doctor(server)
    assert "forged is never sent" in findings
    assert "different releases of the time zone data: 1999a, 20" in findings


def doctor(server: Server) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "trioworkers", "doctor", "--redis", server.url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.slow
def test_ten_workers_killed_stopped_and_cut_off_at_random_send_each_tick_once(fleet: Fleet, server: Server):
    chance = random.Random(15)
    proxies: list[Proxy] = []
    workers: list[Worker] = []

    def start() -> None:
        proxies.append(Proxy(server.port))
        workers.append(fleet.start(proxies[-1].url, entries=5))

    try:
        for _ in range(10):
            start()
        ends_at = time.monotonic() + float(os.environ.get("CHAOS_S", "75"))
        while time.monotonic() < ends_at:
            time.sleep(chance.uniform(0.2, 1.5))
            number = chance.randrange(len(workers))
            match chance.choice(("kill", "stop", "freeze", "cut")):
                case "kill":
                    workers.pop(number).kill()
                    proxies.pop(number).close()
                    start()
                case "stop":
                    workers[number].signal(signal.SIGTERM)
                    workers.pop(number).ended()
                    proxies.pop(number).close()
                    start()
                case "freeze":
                    workers[number].signal(signal.SIGSTOP)
                    time.sleep(chance.uniform(0.1, 3.0))
                    workers[number].signal(signal.SIGCONT)
                case "cut":
                    proxies[number].reset_all()
        time.sleep(3)
        assert fleet.check() > 200
    finally:
        for proxy in proxies:
            proxy.close()
