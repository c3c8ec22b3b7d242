"""A real Ruby Sidekiq and workers of ours on one queue: it is said, `--strict` keeps away, and no job is burned."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from servers import ROOT, Server, Worker, wait_for
from test_ruby import has_sidekiq, required

HERE = Path(__file__).parent
pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(
        not required and not has_sidekiq(), reason="Ruby's Sidekiq is not installed (Debian: ruby-sidekiq)"
    ),
]
COMES = "another kind of worker fetches from our queues"
GOES = "no longer on our queues: Ruby Sidekiq"


def test_ruby_comes_to_our_queue_and_goes(server: Server, run_worker: Callable[..., Worker]):
    def run(*options: str) -> Worker:
        return run_worker(
            server.url, "shared_app:app", "--lease", "2", "--unknown", "leave", *options, PYTHONPATH=f"{ROOT}:{HERE}"
        )

    def members(key: str) -> list[str]:
        found = server.command("ZRANGE", key, 0, -1)
        assert isinstance(found, list)
        return found

    worker, strict = run(), run("--strict")
    worker.wait_started()
    strict.wait_started()
    payloads = [
        json.dumps({"class": "SolvedPuzzleJob", "queue": "solved", "args": [n, "x"], "jid": f"{n:024}", "retry": True})
        for n in range(6)
    ]
    server.command("LPUSH", "queue:solved", *payloads)
    wait_for(lambda: len(members("schedule")) == len(payloads), "all are left for others")
    left = [json.loads(payload) for payload in members("schedule")]
    assert all(fields.pop("tw_snoozed") for fields in left)  # since when, so that it is not for ever
    assert sorted(left, key=str) == sorted(map(json.loads, payloads), key=str)
    text = worker.text + strict.text
    assert 1 <= text.count("class 'SolvedPuzzleJob' on queue solved has no handler here") <= 2  # once in each worker
    for quiet in (worker, strict):  # they fetch no more, but go on promoting: Ruby gets them all
        quiet.signal(signal.SIGTSTP)

    command = ["sidekiq", "-r", str(HERE / "solved.rb"), "-q", "solved", "-c", "2"]
    environment = {**os.environ, "REDIS_URL": server.url}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as sidekiq:
        try:
            wait_for(lambda: COMES in worker.text, "it is noticed")
            assert strict.ended() == 1
            assert "strict, so stopped" in strict.text
            late = run("--strict")
            assert late.ended() == 1
            assert "strict, so not started" in late.text
            assert "Traceback" not in strict.text + late.text
            wait_for(lambda: server.command("LLEN", "ruby:solved") == 6, "Ruby runs what we left")
        finally:
            sidekiq.send_signal(signal.SIGTERM)
    wait_for(lambda: GOES in worker.text, "it is noticed that Ruby is gone")
    assert (worker.text.count(COMES), worker.text.count(GOES)) == (1, 1)
    assert members("retry") == members("dead") == []
    assert server.command("GET", "stat:failed") in (None, "0")
