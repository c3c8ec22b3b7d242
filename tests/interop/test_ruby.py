"""Against a real Ruby Sidekiq: it pushes, we run; we push, it runs; its API reads what we write, and we obey it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import trio
from scripted_sink import scripted_sink
from servers import ROOT, Server, Worker, wait_for

from trioworkers import Client, Job
from trioworkers.retry import backoff_s

HERE = Path(__file__).parent
PUZZLE = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79"
RunWorker = Callable[..., Worker]


def has_sidekiq() -> bool:
    ruby = shutil.which("ruby")
    return (
        ruby is not None
        and subprocess.run([ruby, "-e", "require 'sidekiq'"], capture_output=True, check=False).returncode == 0
    )


required = bool(os.environ.get("TRIOWORKERS_REQUIRE_INTEROP"))
pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(
        not required and not has_sidekiq(), reason="Ruby's Sidekiq is not installed (Debian: ruby-sidekiq)"
    ),
]


class Ruby:
    """Runs the scripts beside this file."""

    def __init__(self, server: Server) -> None:
        self._environment = {**os.environ, "REDIS_URL": server.url}

    def _run(self, script: str, *args: str, stdin: str = "") -> str:
        command = ["ruby", str(HERE / script), *args]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, env=self._environment, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def push(self, *items: dict[str, Any]) -> list[str]:
        return json.loads(self._run("push.rb", stdin=json.dumps(items)))

    def look(self) -> dict[str, Any]:
        return json.loads(self._run("look.rb"))

    def act(self, what: str) -> None:
        self._run("act.rb", what)


@pytest.fixture
def ruby(server: Server) -> Ruby:
    return Ruby(server)


@pytest.fixture
def sink() -> Iterator[tuple[str, list[tuple[str, str, Any]]]]:
    """An HTTP server and the (path, idempotency key, body) of what it got."""
    got: list[tuple[str, str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            got.append((self.path, self.headers["Idempotency-Key"], body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", got
    server.shutdown()
    server.server_close()


def test_tracking_jobs_of_ruby_run_once_in_both_forms(ruby: Ruby, server: Server, run_worker: RunWorker, sink: Any):
    url, got = sink
    user = {
        "id": 12345678901234567890,
        "name": "Zoë ☃",
        "email": "z@example.org",
        "url": "https://x",
        "ip_address": "::1",
    }
    first, second = ruby.push(
        {"queue": "track", "class": "TrackUserJob", "args": list(user.values())},
        {"queue": "track", "class": "TrackUserJob", "args": [user]},
    )
    services = f"generic={url}/generic,google={url}/google"
    worker = run_worker(server.url, "handlers:app", TRACKING_SERVICES=services).wait_started()
    wait_for(lambda: len(got) == 4, lambda: worker.text)
    wait_for(lambda: ruby.look()["processed"] == 2, "they count")
    keys = {f"{jid}:{name}" for jid in (first, second) for name in ("generic", "google")}
    assert {key for _, key, _ in got} == keys
    assert all(body == user for _, _, body in got)
    look = ruby.look()
    assert (look["failed"], look["enqueued"], look["retries"]) == (0, 0, [])


def test_puzzles_of_ruby_are_solved_and_ruby_runs_the_results(ruby: Ruby, server: Server, run_worker: RunWorker):
    ruby.push(*[{"queue": "unsolved_puzzles", "class": "SudokuSolver", "args": [n, PUZZLE]} for n in range(3)])
    run_worker(server.url, "handlers:app").wait_started()
    command = ["sidekiq", "-r", str(HERE / "solved.rb"), "-q", "solved", "-c", "1"]
    environment = {**os.environ, "REDIS_URL": server.url}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as sidekiq:
        try:
            wait_for(lambda: server.command("LLEN", "ruby:solved") == 3, "Ruby runs them")
        finally:
            sidekiq.send_signal(signal.SIGTERM)
    found = server.command("LRANGE", "ruby:solved", 0, -1)
    assert isinstance(found, list)
    sys.path.insert(0, str(ROOT))
    from handlers.sudoku import solve  # noqa: PLC0415 - only here

    assert sorted(json.loads(text) for text in found) == [[n, solve(PUZZLE)] for n in range(3)]


def test_rubys_api_reads_what_we_wrote(ruby: Ruby, server: Server, run_worker: RunWorker):
    server.command("LPUSH", "queue:q", b"not json \xff")
    ruby.push(
        {"queue": "q", "class": "fail", "args": [], "backtrace": True, "retry_count": 5},  # not due while we look
        {"queue": "q", "class": "add", "args": ["x", 2]},
        {"queue": "q", "class": "add", "args": [1, 2]},
        {"queue": "q", "class": "wait", "args": [60]},
    )
    began_at = time.time()
    worker = run_worker(
        server.url, "interop_app:app", "--process-id", "shop", "--lease", "3", PYTHONPATH=f"{ROOT}:{HERE}"
    )
    worker.wait_started()
    wait_for(lambda: len(ruby.look()["work"]) == 1, "the running job shows")
    look = ruby.look()
    assert (look["processed"], look["failed"]) == (3, 2)
    (retry,) = look["retries"]
    assert (retry["error"], retry["message"], retry["retry_count"]) == ("ValueError", "boom é", 6)
    assert began_at + backoff_s(6) <= retry["at"] <= time.time() + backoff_s(6) + 10 * 7
    assert "in `fail'" in retry["backtrace"][0]
    assert len(look["dead"]) == 2
    assert any("argument 1 (a): expected int, got str" in dead for dead in look["dead"])
    (process,) = look["processes"]
    assert (process["queues"], process["concurrency"], process["tag"]) == (["q"], 10, "shop")
    assert (process["pid"], process["quiet"]) == (worker.process.pid, "false")
    (work,) = look["work"]
    assert (work["queue"], work["process"]) == ("q", process["identity"])


@pytest.mark.parametrize("hand", ["retry", "revive"])
def test_job_that_is_retried_by_hand_makes_only_the_calls_that_are_left(
    ruby: Ruby, server: Server, run_worker: RunWorker, hand: str
):
    mended = False
    bad = 503 if hand == "retry" else 404  # into the retry set, or into the dead set

    def script(name: str, time: int) -> int:
        return bad if name == "b" and not mended else 200

    with scripted_sink(script, retry_after_s=1000) as sink:
        (jid,) = ruby.push({"class": "Calls", "queue": "q", "args": []})
        run_worker(server.url, "fan_out_app:app", SINK=sink.url)
        place = "retry" if hand == "retry" else "dead"
        wait_for(lambda: server.command("ZCARD", place) == 1, f"the job is in {place}")
        mended = True
        ruby.act(hand)
        wait_for(lambda: len(sink.delivered()) == 3, "all calls are done")
        assert Counter(sink.log) == {
            (f"{jid}:a", 200): 1,
            (f"{jid}:c", 200): 1,
            (f"{jid}:b", bad): 1,
            (f"{jid}:b", 200): 1,
        }
        wait_for(lambda: server.command("EXISTS", "retry", "dead", "queue:q") == 0, "nothing is left")


def test_we_obey_rubys_tools(ruby: Ruby, server: Server, run_worker: RunWorker):
    worker = run_worker(server.url, "interop_app:app", "--lease", "3", PYTHONPATH=f"{ROOT}:{HERE}").wait_started()
    ruby.push({"queue": "q", "class": "fail", "args": [], "x": {"y": [1.10, None]}})
    wait_for(lambda: ruby.look()["retries"], "it failed")
    ruby.act("retry")
    wait_for(lambda: [job["retry_count"] for job in ruby.look()["retries"]] == [0], "it failed again")
    wait_for(lambda: ruby.look()["failed"] == 2, "it ran again")
    ruby.act("kill")
    assert json.loads(ruby.look()["dead"][0])["x"] == {"y": [1.1, None]}
    ruby.act("quiet")
    wait_for(lambda: [process["quiet"] for process in ruby.look()["processes"]] == ["true"], "it is quiet")
    ruby.act("stop")
    assert worker.ended() == 0
    assert ruby.look()["processes"] == []


def test_what_our_client_sends_is_read_and_run_by_ruby(ruby: Ruby, server: Server):
    async def send() -> None:
        async with Client(server.url) as client:
            await client.enqueue(*[Job("solved", "SolvedPuzzleJob", [n, "é" * 81]) for n in range(20)])
            await client.schedule(3600, Job("solved", "SolvedPuzzleJob", [99, "later"]))

    began_at = time.time()
    trio.run(send)
    sent_at = time.time()
    look = ruby.look()
    assert (look["enqueued"], look["queues"]) == (20, {"solved": 20})
    (scheduled,) = look["scheduled"]
    assert scheduled["args"] == [99, "later"]
    assert began_at - 1 <= scheduled["at"] - 3600 <= sent_at + 1
    command = ["sidekiq", "-r", str(HERE / "solved.rb"), "-q", "solved", "-c", "2"]
    environment = {**os.environ, "REDIS_URL": server.url}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as sidekiq:
        try:
            wait_for(lambda: server.command("LLEN", "ruby:solved") == 20, "Ruby runs them")
        finally:
            sidekiq.send_signal(signal.SIGTERM)
