"""A limit over a fleet whose workers are killed, stopped, frozen and cut off: an outside witness counts who runs at once."""

from __future__ import annotations

import os
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Collection
from pathlib import Path

import attrs
import pytest
from click.testing import CliRunner
from harness import Jobs
from servers import Server, Worker, wait_for

from trioworkers.cli.commands import app

LIMIT = 4
Start = Callable[..., Worker]


@attrs.define
class Witness:
    """Reads the file of runs, in which the test notes its faults, too. It knows nothing of Redis."""

    jobs: Jobs

    def note(self, fault: str, worker: Worker) -> None:
        with os.fdopen(os.open(self.jobs.runs, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "ab") as file:
            file.write(f"{fault} - {worker.process.pid} 0\n".encode())

    def highest(self, of: Collection[str] | None = None) -> int:
        """How many (of these jids) ran at once at most: not counted is what ran in a worker when it was killed or frozen."""
        running: dict[int, set[str]] = defaultdict(set)
        most = 0
        for line in self.jobs.runs.read_text().splitlines():
            event, jid, pid, _ = line.split()
            if event == "start" and (of is None or jid in of):
                running[int(pid)].add(jid)
            elif event == "end":
                running[int(pid)].discard(jid)
            elif event in ("killed", "frozen"):
                running[int(pid)].clear()
            most = max(most, sum(map(len, running.values())))
        return most

    def starts(self, of: Collection[str]) -> list[float]:
        """When these started, by the clock of the machine."""
        lines = [line.split() for line in self.jobs.runs.read_text().splitlines()]
        return sorted(float(at) for event, jid, _, at in lines if event == "start" and jid in of)

    def push(self, count: int, job_class: str, *args: object, queue: str = "q") -> set[str]:
        """Enqueue jobs; their jids."""
        before = set(self.jobs.payloads)
        self.jobs.push_elsewhere(count, f"queue:{queue}", job_class, *args, queue=queue)
        return set(self.jobs.payloads) - before


@pytest.fixture
def witness(jobs: Jobs) -> Witness:
    jobs.baseline = None  # that of another app
    return Witness(jobs)


@pytest.fixture
def start(run_worker: Callable[..., Worker], server: Server, jobs: Jobs) -> Start:
    def begin(process_id: str, *options: str) -> Worker:
        options = ("--process-id", process_id, "--lease", "2", "--shutdown-timeout", "1", *options)
        jobs.workers.append(run_worker(server.url, "limits_app:app", *options, RUNS=str(jobs.runs)))
        return jobs.workers[-1].wait_started()

    return begin


def act(server: Server, *words: str) -> str:
    done = CliRunner().invoke(app, [*words, "--redis", server.url])
    assert done.exit_code == 0, done.output
    return done.output


def nothing_is_held(server: Server) -> bool:
    """No permit, and nobody parked. Reservations of jobs that ran elsewhere run out by themselves."""
    patterns = ("tw:permits:*", "tw:waiting:*", "tw:parked*", "tw:expiring", "tw:waits", "tw:passed*", "tw:holds:*")
    return not any(server.command("KEYS", pattern) for pattern in patterns)


def test_no_more_run_than_may_and_as_many_do(start: Start, jobs: Jobs, witness: Witness, server: Server):
    for name in ("w1", "w2", "w3", "w4"):
        start(name)
    jobs.push(120, "Limited", 0.1)
    jobs.push(50, "Free")
    wait_for(lambda: len(jobs.counted("free")) == 50, "others pass by those who wait")
    jobs.expect_all_done(extra_runs=0)
    assert witness.highest() == LIMIT
    wait_for(lambda: nothing_is_held(server), "nothing is held")


def test_killed_worker_gives_its_permits_back_when_its_jobs_are_taken_over(
    start: Start, jobs: Jobs, witness: Witness, server: Server
):
    first = start("w1")
    jobs.push(LIMIT, "Limited", 600)
    wait_for(lambda: len(jobs.counted("start")) == LIMIT, "all permits are held")
    start("w2")
    jobs.push(20, "Limited", 0.05)
    wait_for(lambda: server.command("ZCARD", "tw:parked") == 20, "the others are parked")
    first.kill()
    witness.note("killed", first)
    for jid in jobs.counted("start"):
        jobs.payloads.pop(jid)  # these run on for ever
    wait_for(lambda: sum(jobs.counted("start").values()) == 2 * LIMIT, "its jobs run again, before those parked")
    assert witness.highest() == LIMIT


def test_stop_keeps_the_permits_for_the_jobs_that_it_puts_back(
    start: Start, jobs: Jobs, witness: Witness, server: Server, tmp_path: Path
):
    over = tmp_path / "over"
    first = start("w1")
    jobs.push(LIMIT, "Until", str(over))
    wait_for(lambda: len(jobs.counted("start")) == LIMIT, "all permits are held")
    jobs.push(10, "Limited", 0.05)
    wait_for(lambda: server.command("ZCARD", "tw:parked") == 10, "the others are parked")
    first.signal(signal.SIGTERM)
    assert first.ended() == 0
    assert (server.command("SCARD", "tw:permits:crm"), server.command("ZCARD", "tw:reserved:crm")) == (0, LIMIT)
    start("w2")
    wait_for(lambda: sum(jobs.counted("start").values()) >= 2 * LIMIT, "its jobs are next in turn")
    assert set(jobs.counted("start")) == {f"{number:024x}" for number in range(LIMIT)}
    over.touch()
    jobs.expect_all_done(extra_runs=LIMIT)
    assert witness.highest() == LIMIT
    wait_for(lambda: nothing_is_held(server), "nothing is held")


def test_outage_frees_no_permit(start: Start, jobs: Jobs, witness: Witness, server: Server):
    """All leases run out while Redis stands still; the jobs run on."""
    for name in ("w1", "w2"):
        start(name)
    jobs.push(LIMIT, "Limited", 5)
    wait_for(lambda: len(jobs.counted("start")) == LIMIT, "all permits are held")
    jobs.push(20, "Limited", 0.05)
    server.send(signal.SIGSTOP)
    time.sleep(3)  # longer than the lease
    server.send(signal.SIGCONT)
    jobs.expect_all_done(extra_runs=0)
    assert witness.highest() == LIMIT
    wait_for(lambda: nothing_is_held(server), "nothing is held")


MOST = {"Limited": 4, "Queued": 3, "a": 2, "b": 2, "Both": 2, "Part": 3}


def push_of_all_kinds(witness: Witness, count: int, seconds: float) -> dict[str, set[str]]:
    """Jobs under limits of all kinds; by kind, with how many of each may run at once."""
    return {
        "Limited": witness.push(count, "Limited", seconds),
        "Queued": witness.push(count, "Queued", seconds, queue="limited"),
        "a": witness.push(count, "Tenant", seconds, "a"),
        "b": witness.push(count, "Tenant", seconds, "b"),
        "Both": witness.push(count, "Both", seconds),
        "Part": witness.push(count, "Part", seconds),
    }


def test_limits_of_all_kinds_at_once(start: Start, jobs: Jobs, witness: Witness, server: Server):
    pushed = push_of_all_kinds(witness, 30, 0.1)
    for name in ("w1", "w2", "w3"):
        start(name)
    jobs.expect_all_done(extra_runs=0)
    found = {kind: witness.highest(jids) for kind, jids in pushed.items()}
    assert found == MOST
    assert witness.highest(pushed["Limited"] | pushed["Both"]) == LIMIT
    wait_for(lambda: nothing_is_held(server), "nothing is held")


def test_limits_of_all_kinds_when_workers_are_killed_and_stopped(
    start: Start, jobs: Jobs, witness: Witness, server: Server
):
    first, second = start("w1"), start("w2")
    pushed = push_of_all_kinds(witness, 25, 0.2)
    wait_for(lambda: len(jobs.counted("start")) > 20, "jobs run")
    first.kill()
    witness.note("killed", first)
    second.signal(signal.SIGTERM)
    start("w3")
    start("w1")
    jobs.fault_is_over()
    jobs.expect_all_done(extra_runs=60)
    for kind, jids in pushed.items():
        assert witness.highest(jids) <= MOST[kind], kind
    assert witness.highest(pushed["Limited"] | pushed["Both"]) <= LIMIT
    wait_for(lambda: nothing_is_held(server), "nothing is held")


def test_paused_queue_keeps_its_parked_jobs_and_nobody_elses(
    start: Start, jobs: Jobs, witness: Witness, server: Server, tmp_path: Path
):
    over = tmp_path / "over"
    start("w1")
    jobs.push(LIMIT, "Until", str(over))
    wait_for(lambda: len(jobs.counted("start")) == LIMIT, "all permits are held")
    parked = witness.push(300, "Limited", 0)
    wait_for(lambda: server.command("ZCARD", "tw:parked") == 300, "the others are parked")
    server.command("SADD", "paused", "q")
    over.touch()
    wait_for(lambda: not server.command("SCARD", "tw:permits:crm"), "the permits are free")
    time.sleep(2)
    assert not parked & set(jobs.counted("start"))
    server.command("SREM", "paused", "q")
    jobs.expect_all_done(extra_runs=0)
    wait_for(lambda: nothing_is_held(server), "nothing is held")


def test_clocks_of_workers_change_nothing(
    run_worker: Callable[..., Worker], jobs: Jobs, witness: Witness, server: Server
):
    for name, ahead_s in (("w1", 3600), ("w2", -3600)):
        options = ("--process-id", name, "--lease", "2", "--shutdown-timeout", "1")
        env = {"RUNS": str(jobs.runs), "CLOCK_AHEAD_S": str(ahead_s)}
        jobs.workers.append(run_worker(server.url, "limits_app:app", *options, **env).wait_started())
    began_at = time.time()
    pushed = witness.push(61, "Rated") | witness.push(61, "QueueRated", queue="rated")
    jobs.expect_all_done(extra_runs=0)
    assert time.time() - began_at >= 2.9, "60 starts after the first are 3 s at 20/s"
    assert len(witness.starts(pushed)) == 122
    wait_for(lambda: nothing_is_held(server), "nothing is held")


def test_whoever_is_refused_closes_the_limit_for_the_fleet(start: Start, jobs: Jobs, witness: Witness, server: Server):
    start("w1")
    pushed = witness.push(1, "Refused", 2)
    wait_for(lambda: jobs.counted("refused"), "it was refused")
    start("w2")
    others = witness.push(20, "Refused", 2)
    jobs.expect_all_done(extra_runs=2)
    refused_at = witness.starts(pushed)[0]
    assert min(witness.starts(others)) >= refused_at + 2
    wait_for(lambda: nothing_is_held(server), "nothing is held")


def test_paused_class_gives_its_permits_back(start: Start, jobs: Jobs, witness: Witness, server: Server):
    server.command("SADD", "tw:paused:classes", "Limited")
    start("w1")
    held = witness.push(30, "Limited", 0)
    wait_for(lambda: jobs.jids("schedule") == held, "all are held")
    witness.push(10, "Both", 0)
    wait_for(lambda: len(jobs.counted("end")) == 10, "others under the same limit run")
    assert not held & set(jobs.counted("start"))
    server.command("SREM", "tw:paused:classes", "Limited")
    for jid in held:
        jobs.payloads.pop(jid)
    wait_for(lambda: nothing_is_held(server), "nothing is held")


def test_what_an_operator_takes_from_where_it_is_parked_holds_nobody_up(
    start: Start, jobs: Jobs, witness: Witness, server: Server, tmp_path: Path
):
    over = tmp_path / "over"
    start("w1")
    jobs.push(LIMIT, "Until", str(over))
    wait_for(lambda: len(jobs.counted("start")) == LIMIT, "all permits are held")
    taken = witness.push(50, "Limited", 0)
    wait_for(lambda: server.command("ZCARD", "tw:parked") == 50, "the others are parked")
    assert "50" in act(server, "delete", "--in", "parked", "--all", "--yes")
    act(server, "purge", "q", "--yes")
    over.touch()
    jobs.push(10, "Limited", 0)
    for jid in taken:
        jobs.payloads.pop(jid)
    jobs.expect_all_done(extra_runs=0)
    assert not taken & set(jobs.counted("start"))
    wait_for(lambda: nothing_is_held(server), "nothing is held")


@pytest.mark.slow
def test_rates_over_a_minute_in_which_workers_come_and_go(start: Start, jobs: Jobs, witness: Witness, server: Server):
    first, _ = start("w1"), start("w2")
    classes = witness.push(1500, "Rated")
    queued = witness.push(1500, "QueueRated", queue="rated")
    began_at = time.time()
    time.sleep(20)
    first.kill()
    start("w3")
    time.sleep(20)
    start("w4").signal(signal.SIGTERM)
    time.sleep(25)
    for jids in (classes, queued):
        times = [at for at in witness.starts(jids) if at <= began_at + 60]
        assert len(times) == pytest.approx(1200, rel=0.02)
        for at in times[:: len(times) // 50]:  # nor in any second many more than may
            assert sum(1 for each in times if at <= each < at + 1) <= 20 * 2 + 1


@pytest.mark.slow
def test_fleet_under_faults_of_all_kinds(start: Start, jobs: Jobs, witness: Witness, server: Server):
    workers = [start(f"w{number}") for number in range(4)]
    pushed = push_of_all_kinds(witness, 120, 0.1)
    time.sleep(1)
    workers[0].kill()
    witness.note("killed", workers[0])
    time.sleep(0.5)
    workers[1].signal(signal.SIGTERM)
    workers[2].signal(signal.SIGSTOP)
    witness.note("frozen", workers[2])
    start("w0")  # under the same process id
    start("w5")
    time.sleep(4)  # the frozen one is taken over
    workers[2].signal(signal.SIGCONT)
    server.send(signal.SIGSTOP)
    time.sleep(3)
    server.send(signal.SIGCONT)
    jobs.fault_is_over()
    jobs.expect_all_done(extra_runs=120, timeout_s=90)
    for kind, jids in pushed.items():
        assert witness.highest(jids) <= MOST[kind], kind
    wait_for(lambda: nothing_is_held(server), "nothing is held")


def test_frozen_worker_loses_what_it_holds_within_slots_and_does_no_harm_when_it_thaws(
    start: Start, jobs: Jobs, witness: Witness, server: Server
):
    first = start("w1")
    witness.push(6, "Part", 2)
    wait_for(lambda: len(jobs.counted("start")) == 3, "three are inside, three wait in their slots")
    first.signal(signal.SIGSTOP)
    witness.note("frozen", first)
    start("w2")
    wait_for(lambda: sum(jobs.counted("start").values()) >= 6, "another worker has them")
    first.signal(signal.SIGCONT)
    jobs.fault_is_over()
    jobs.expect_all_done(extra_runs=8)
    assert witness.highest() <= 3
    wait_for(lambda: nothing_is_held(server), "nothing is held")


def test_number_of_the_version_that_started_last_holds_for_all(
    run_worker: Callable[..., Worker], jobs: Jobs, witness: Witness, server: Server
):
    def version(process_id: str, crm: int) -> None:
        options = ("--process-id", process_id, "--lease", "2", "--shutdown-timeout", "1")
        worker = run_worker(server.url, "limits_app:app", *options, RUNS=str(jobs.runs), CRM=str(crm))
        jobs.workers.append(worker.wait_started())

    version("w1", 4)
    jobs.push(20, "Limited", 60)
    wait_for(lambda: len(jobs.counted("start")) == 4, "as many run as the old version says")
    version("w2", 7)
    wait_for(lambda: len(jobs.counted("start")) == 7, "as many run as the new one says")
    time.sleep(2)  # the old one is heard of all the while
    assert len(jobs.counted("start")) == 7
    version("w3", 2)  # a rollback: what runs goes on
    jobs.push(5, "Limited", 0)
    time.sleep(2)
    assert len(jobs.counted("start")) == 7
