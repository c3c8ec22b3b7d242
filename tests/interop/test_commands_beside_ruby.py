"""Our commands beside a real Ruby Sidekiq: they see and stop its processes, and move jobs as its own buttons do."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from servers import Server, wait_for

from trioworkers.cli.commands import app

HERE = Path(__file__).parent
Evaluate = Callable[[str], Any]


def has_sidekiq() -> bool:
    ruby = shutil.which("ruby")
    return (
        ruby is not None
        and subprocess.run([ruby, "-e", "require 'sidekiq'"], capture_output=True, check=False).returncode == 0
    )


pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(
        not os.environ.get("TRIOWORKERS_REQUIRE_INTEROP") and not has_sidekiq(),
        reason="Ruby's Sidekiq is not installed (Debian: ruby-sidekiq)",
    ),
]


@pytest.fixture
def ruby(server: Server) -> Iterator[Evaluate]:
    """Evaluates a line of Ruby with Sidekiq's API at hand."""
    environment = {**os.environ, "REDIS_URL": server.url}
    with subprocess.Popen(
        ["ruby", str(HERE / "api.rb")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def evaluate(line: str) -> Any:
            process.stdin.write(f"{line}\n")
            process.stdin.flush()
            (value,) = json.loads(process.stdout.readline())
            return value

        yield evaluate
        process.stdin.close()


def act(server: Server, *words: str) -> str:
    done = CliRunner().invoke(app, [*words, "--redis", server.url])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


def payload(jid: str) -> str:
    job = {"retry": True, "queue": "q", "class": "A", "args": [1, "é", 2**70], "jid": jid, "created_at": 1.5e9}
    job |= {"enqueued_at": 1.5e9, "error_class": "E", "error_message": "m", "retry_count": 3, "failed_at": 1.5e9}
    return json.dumps(job, ensure_ascii=False)


def queued(server: Server) -> dict[str, dict[str, Any]]:
    found = server.command("LRANGE", "queue:q", 0, -1)
    assert isinstance(found, list)
    return {job.pop("jid"): {**job, "enqueued_at": job["enqueued_at"] > 1.6e9} for job in map(json.loads, found)}


@pytest.mark.parametrize(
    ("key", "command", "button"),
    [
        ("retry", "retry", "Sidekiq::RetrySet.new.find_job('theirs').retry"),
        ("dead", "retry", "Sidekiq::DeadSet.new.find_job('theirs').retry"),
        ("dead", "requeue", "Sidekiq::DeadSet.new.find_job('theirs').add_to_queue"),
        ("schedule", "run-now", "Sidekiq::ScheduledSet.new.find_job('theirs').add_to_queue"),
    ],
)
def test_job_moved_by_us_is_as_if_moved_by_sidekiq(server: Server, ruby: Evaluate, key: str, command: str, button: str):
    server.command("ZADD", key, 1.9e9, payload("ours"), 1.9e9 + 1, payload("theirs"))
    act(server, command, "ours")
    ruby(f"{button}; true")
    jobs = queued(server)
    assert jobs["ours"] == jobs["theirs"]
    assert server.command("EXISTS", key) == 0


def test_buried_and_imported_jobs_are_read_by_sidekiq(server: Server, ruby: Evaluate, tmp_path: Path):
    server.command("SADD", "queues", "q")
    server.command("LPUSH", "queue:q", payload("ours"))
    act(server, "bury", "ours")
    file = tmp_path / "dead.jsonl"
    act(server, "export", "dead", "-o", str(file))
    act(server, "delete", "ours")
    assert ruby("Sidekiq::DeadSet.new.size") == 0
    act(server, "import", str(file))
    assert ruby("Sidekiq::DeadSet.new.map { |job| [job.jid, job.klass, job.args] }") == [["ours", "A", [1, "é", 2**70]]]


def test_rubys_process_is_shown_with_its_job_and_stops_when_told(server: Server):
    command = ["sidekiq", "-r", str(HERE / "slow.rb"), "-q", "slow", "-c", "2", "-t", "1"]
    environment = {**os.environ, "REDIS_URL": server.url}

    def ps() -> dict[str, Any]:
        lines = act(server, "ps", "--json").splitlines()
        return json.loads(lines[0]) if lines else {"running": []}

    job = {"retry": True, "queue": "slow", "class": "SlowJob", "args": [60], "jid": "slow1", "created_at": 1.5e9}
    server.command("SADD", "queues", "slow")
    server.command("LPUSH", "queue:slow", json.dumps({**job, "enqueued_at": 1.5e9}))
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as sidekiq:
        try:
            wait_for(lambda: ps()["running"], "its job is shown")
            process = ps()
            assert process["kind"].startswith("sidekiq")
            assert (process["concurrency"], list(process["queues"]), process["running"][0]["jid"]) == (
                2,
                ["slow"],
                "slow1",
            )
            (shown,) = map(json.loads, act(server, "show", "slow1", "--json").splitlines())
            assert (shown["in"], shown["process"]) == ("running", process["process"])
            cancelled = CliRunner().invoke(app, ["cancel", "slow1", "--redis", server.url])
            assert "not one of ours" in str(cancelled.exception)
            act(server, "stop", "--all")
            assert sidekiq.wait(60) == 0
        finally:
            if sidekiq.poll() is None:
                sidekiq.send_signal(signal.SIGKILL)
