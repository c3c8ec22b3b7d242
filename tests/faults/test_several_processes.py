"""`run --processes` with real workers: rolled, killed and stopped under load, while every jid is counted."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import Jobs, children_of
from servers import ROOT, Server, Worker, free_port, wait_for

from trioworkers.cli.processes import cores, read_count, read_size
from trioworkers.errors import WrongUsage

Run = Callable[..., Worker]


@pytest.fixture
def run(run_worker: Run, server: Server, jobs: Jobs) -> Iterator[Run]:
    """Starts a parent; whatever becomes of it, its children end with the test."""
    pids: set[int] = set()

    def start(count: int, *options: str, **environment: str) -> Worker:
        fixed = ("--processes", str(count), "--process-id", "w", "--lease", "2", "--shutdown-timeout", "2")
        environment = {"RUNS": str(jobs.runs), "CONCURRENCY": "10", **environment}
        parent = run_worker(server.url, "process_app:app", *fixed, *options, **environment)
        wait_for(lambda: f"all {count} processes are ready" in parent.text, lambda: f"they are ready: {parent.text}")
        pids.update(workers_of(parent), pages_of(parent))
        return parent

    yield start
    for pid in pids:
        if "trioworkers.cli." in command_of(pid):
            os.kill(pid, signal.SIGKILL)


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def workers_of(parent: Worker) -> list[int]:
    return [pid for pid, command in children_of(parent.process.pid) if "trioworkers.cli.child" in command]


def names_of(server: Server) -> set[str]:
    """The process ids that are registered."""
    found = server.command("KEYS", "tw:lease:*")
    assert isinstance(found, list)
    return {str(key).removeprefix("tw:lease:") for key in found}


def probe(port: int, path: str) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=30) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_rolled_under_load_each_job_runs_once_and_capacity_is_never_missing(run: Run, jobs: Jobs):
    port = free_port()
    parent = run(2, "--health", f"127.0.0.1:{port}")
    jobs.push(600, "Sleep", 0.02)
    first = set(workers_of(parent))
    parent.signal(signal.SIGHUP)
    ready = []

    def rolled() -> bool:
        ready.append(probe(port, "ready"))
        return parent.text.count("all 2 processes are ready") == 2

    wait_for(rolled, lambda: f"all are replaced: {parent.text}")
    assert set(ready) == {200}
    assert not first & set(workers_of(parent))
    jobs.push(100, "Sleep", 0.02)
    jobs.expect_all_done(extra_runs=0)
    assert len(jobs.pids()) == 4
    assert names_of(jobs.server) == {"w-1b", "w-2b"}
    assert probe(port, "drained") == 503
    parent.signal(signal.SIGTSTP)
    wait_for(lambda: probe(port, "drained") == 200, "they are quiet")
    assert (probe(port, "live"), probe(port, "ready")) == (200, 503)
    parent.signal(signal.SIGTERM)
    assert parent.ended() == 0
    assert names_of(jobs.server) == set()
    assert "Traceback" not in parent.text


TELLS_ITSELF = """
import os, signal, sys

class Teller:
    def find_spec(self, name, path=None, target=None):
        if name == "trioworkers.cli.commands" and (number := os.environ.pop("SENT", None)):
            os.kill(os.getpid(), int(number))

sys.meta_path.insert(0, Teller())
"""
"""A module that Python imports first: its process is sent a signal while the command is being imported."""


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR2])
@pytest.mark.parametrize("told_by", ["option", "environment"])
def test_replacing_that_is_asked_for_while_the_command_starts_waits_for_the_parent(
    run_worker: Run, server: Server, tmp_path: Path, number: signal.Signals, told_by: str
):
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "sitecustomize.py").write_text(TELLS_ITSELF)
    words = ("--processes=1",) if told_by == "option" else ()
    environment = {"PYTHONPATH": f"{tmp_path / 'first'}:{ROOT}:{ROOT / 'tests'}", "SENT": str(int(number))}
    environment |= {"TRIOWORKERS_PROCESSES": "1"} if told_by == "environment" else {}
    parent = run_worker(server.url, "process_app:app", "--process-id", "w", *words, **environment)
    wait_for(lambda: names_of(server) == {"w-1b"}, lambda: f"it is replaced: {parent.text}")
    assert "replacing all processes" in parent.text
    parent.signal(signal.SIGTERM)
    assert parent.ended() == 0


def pages_of(parent: Worker) -> list[int]:
    return [pid for pid, command in children_of(parent.process.pid) if "trioworkers.cli.page_child" in command]


def settled_in(port: int) -> int:
    """By the metrics of all processes; -1 while nobody serves them."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as reply:
            found = re.search(r"^trioworkers_settled_total (\S+)$", reply.read().decode(), re.MULTILINE)
    except OSError:
        return -1
    return int(float(found[1])) if found else 0


def test_one_port_has_pages_and_what_all_processes_count_whoever_is_killed(run: Run, jobs: Jobs):
    port = free_port()
    parent = run(2, "--web", f"127.0.0.1:{port}")
    jobs.push(60, "Sleep", 0.05)
    jobs.expect_all_done(extra_runs=0)
    assert len(jobs.pids()) == 2
    wait_for(lambda: settled_in(port) == 60, "all of both are counted")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/processes", timeout=30) as reply:
        shown = reply.read().decode()
    assert all(name in shown for name in ("w-1", "w-2"))
    os.kill(workers_of(parent)[0], signal.SIGKILL)
    wait_for(lambda: names_of(jobs.server) == {"w-1", "w-2"} and len(workers_of(parent)) == 2, "another one is there")
    assert settled_in(port) == 60
    before = pages_of(parent)
    os.kill(before[0], signal.SIGKILL)
    wait_for(lambda: pages_of(parent) not in ([], before), "the page is served anew")
    wait_for(lambda: settled_in(port) >= 0, "by somebody who answers")
    assert settled_in(port) == 0  # from now on: to Prometheus all have begun anew
    parent.signal(signal.SIGTERM)
    assert parent.ended() == 0
    assert pages_of(parent) == []
    assert "process web ended with signal 9" in parent.text
    assert "Traceback" not in parent.text


def test_killed_child_is_followed_by_one_of_its_name_and_its_jobs_run_again(run: Run, jobs: Jobs):
    parent = run(2)
    jobs.push(300, "Sleep", 0.05)
    wait_for(lambda: len(jobs.counted("start")) > 40, "they work")
    victim = workers_of(parent)[0]
    os.kill(victim, signal.SIGKILL)
    jobs.expect_all_done(extra_runs=10)
    wait_for(lambda: names_of(jobs.server) == {"w-1", "w-2"}, "both are there")
    wait_for(lambda: len(workers_of(parent)) == 2, "as processes")
    assert "signal 9; another one starts in 1 s" in parent.text
    parent.signal(signal.SIGINT)
    assert parent.ended() == 0


def test_children_of_a_killed_parent_finish_and_go(run: Run, jobs: Jobs):
    parent = run(2)
    jobs.push(200, "Sleep", 0.3)
    wait_for(lambda: len(jobs.counted("start")) >= 20, "they work")
    children = workers_of(parent)
    assert len(children) == 2
    parent.kill()
    wait_for(lambda: not any("trioworkers.cli.child" in command_of(pid) for pid in children), "no process is left")
    assert jobs.in_progress() == 0
    started, ended = jobs.counted("start"), jobs.counted("end")
    assert started == ended  # what ran was let finish: by EOF they drain, as by TERM
    assert len(jobs.queued()) + len(ended) == 200
    assert names_of(jobs.server) == set()


def test_stop_ends_those_that_ignore_it_and_puts_their_jobs_back(run: Run, jobs: Jobs):
    parent = run(2, "--shutdown-timeout", "0.5")
    jobs.push(2, "Block", 600)
    wait_for(lambda: len(jobs.counted("start")) == 2, "their event loops are blocked")
    parent.signal(signal.SIGTTIN)
    wait_for(lambda: "the event loop is blocked" in parent.text, "a signal is relayed")
    parent.signal(signal.SIGTERM)
    assert parent.ended() == 0
    assert len(jobs.queued()) == 2
    assert not workers_of(parent)


def test_people_see_which_belong_together(run: Run, jobs: Jobs):
    parent = run(2, "--log-format", "json")
    command = [sys.executable, "-m", "trioworkers", "ps", "--redis", jobs.server.url]
    told = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True, cwd=ROOT)
    rows = [json.loads(line) for line in told.stdout.splitlines()]
    assert {row["process"] for row in rows} == {"w-1", "w-2"}
    assert {row["parent"].rpartition(":")[2] for row in rows} == {str(parent.process.pid)}
    lines = [json.loads(line) for line in parent.text.splitlines()]
    named = {line["process"] for line in lines if "process" in line}
    assert named == {"1", "2"}
    assert {line["pid"] for line in lines if "process" not in line} == {parent.process.pid}
    for name in ("w-1", "w-2"):
        subprocess.run(
            [sys.executable, "-m", "trioworkers", "stop", name, "--redis", jobs.server.url], check=True, cwd=ROOT
        )
    assert parent.ended() == 0  # all were told to stop by somebody else: nothing is left to watch over


@pytest.mark.parametrize(
    "text", ["0", "-1", "many", "1e9", "10000000", "0x", "nanx", "infx", "x", "", "٣", "+2", "1.5"]
)
def test_number_of_processes_is_one(text: str):
    with pytest.raises(WrongUsage, match="--processes is a number from 1"):
        read_count(text)


@pytest.mark.parametrize("text", ["much", "1M", "0", "-600M", "", "600X", "infG", "nan", "1e9", "6" * 100])
def test_size_is_one(text: str):
    with pytest.raises(WrongUsage, match="--max-rss is a size"):
        read_size(text)


def test_numbers_and_sizes_are_read():
    assert (read_count("3"), read_count("auto"), read_count("1x"), read_count("0.001x")) == (3, cores(), cores(), 1)
    assert (read_size("600M"), read_size("1.5g"), read_size("64MiB")) == (600 << 20, 3 << 29, 64 << 20)


@pytest.mark.parametrize(
    ("quotas", "wanted"),
    [
        ({"cpu.max": "max 100000"}, 8),
        ({"cpu.max": "150000 100000"}, 2),
        ({"a/b/cpu.max": "50000 100000"}, 1),
        ({"a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
        ({"cpu/cpu.cfs_quota_us": "250000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        ({"cpu.max": "garbage"}, 8),
        ({"cpu.max": "1 0"}, 8),
        ({}, 8),
    ],
)
def test_cores_are_those_of_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quotas: dict[str, str], wanted: int
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8))
    own = tmp_path / "own"
    own.write_text("1:name=systemd:/\n0::/a/b\n")
    for name, quota in quotas.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(quota + "\n")
    assert cores(tmp_path, own) == wanted
    assert cores(tmp_path, tmp_path / "there is none") <= 8


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--processes", "0"], "--processes is a number from 1"),
        (["--processes", "2", "--max-rss", "much"], "--max-rss is a size"),
        (["--max-rss", "600M"], "--max-rss is for --processes"),
        (["--web-token", "a" * 16], "--web-token is for --web"),
        (["--processes", "2", "--web-read-token", "a" * 16], "--web-read-token is for --web"),
        (["--health", "127.0.0.1:x"], "--health is HOST:PORT"),
        (["--processes", "2", "--web", "0.0.0.0:0"], "needs a login"),
        (["--processes", "2", "--web", "127.0.0.1:x"], "HOST:PORT"),
        (["--processes", "2", "--redis", "embedded:"], "an embedded: Redis of its own"),
        (["--processes", "2", "--process-id", "a" * 128], "process_id"),
    ],
)
def test_what_makes_no_sense_is_one_line(options: list[str], why: str):
    command = [sys.executable, "-m", "trioworkers", "run", "limits_app:app", *options]
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    told = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, env={**os.environ, "PYTHONPATH": path}
    )
    assert told.returncode == 2, told.stderr
    said = [line for line in told.stderr.splitlines() if not re.match(r"\d{4}-", line)]  # the parent's log
    assert len(said) == 1, told.stderr
    assert why in said[0]
    assert "Traceback" not in told.stderr
