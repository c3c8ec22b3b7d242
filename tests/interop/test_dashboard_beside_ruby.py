"""The dashboard over what a real Ruby Sidekiq wrote: its process, its running job, its failures with their backtraces."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from servers import Server, wait_for
from test_commands_beside_ruby import has_sidekiq
from visiting import HERE, harmless_text, visiting

from trioworkers.web import asgi

FOLDER = Path(__file__).parent

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(
        not os.environ.get("TRIOWORKERS_REQUIRE_INTEROP") and not has_sidekiq(),
        reason="Ruby's Sidekiq is not installed (Debian: ruby-sidekiq)",
    ),
]

BOTH = f"require '{FOLDER}/slow.rb'; require '{FOLDER}/fail.rb'"


async def test_what_ruby_wrote_is_shown_and_retried(server: Server, tmp_path: Path):
    program = tmp_path / "both.rb"
    program.write_text(BOTH)
    job = {"retry": True, "queue": "q", "created_at": 1.5e9, "enqueued_at": 1.5e9}
    server.command("SADD", "queues", "q")
    slow = {**job, "class": "SlowJob", "args": [60], "jid": "slow1"}
    fails = {**job, "class": "Fail", "args": ["<b>"], "jid": "fail1", "backtrace": 2, "tags": ["ours"]}
    server.command("LPUSH", "queue:q", json.dumps(slow), json.dumps(fails))
    command = ["sidekiq", "-r", str(program), "-q", "q", "-c", "2", "-t", "1"]
    environment = {**os.environ, "REDIS_URL": server.url}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as sidekiq:  # noqa: ASYNC220 - it starts at once
        try:
            wait_for(lambda: server.command("ZCARD", "retry") == 1, "it fails")
            wait_for(lambda: server.command("KEYS", "*:work*"), "a heartbeat tells of the other")
            async with visiting(asgi(server.url), headers=HERE) as visitor:
                busy = (await visitor.get("/busy")).text
                assert "SlowJob" in busy
                assert "Cancel" not in busy  # nobody can cancel Ruby's jobs from outside
                assert ">sidekiq" in (await visitor.get("/processes")).text
                assert "slow1" in (await visitor.get("/job?jid=slow1")).text
                failed = (await visitor.get("/job?jid=fail1")).text
                assert "ArgumentError" in failed
                assert "fail.rb:" in failed  # Ruby's own backtrace
                retries = (await visitor.get("/retries?q=error%3DArgumentError")).text
                assert "1 match among 1 job" in retries
                for page in (busy, failed, retries):
                    harmless_text(page)
                assert "sidekiq_processes 1.0" in (await visitor.get("/metrics")).text
                await visitor.post("/do/act", data={"act": "bury", "all": "1", "sure": "1", "in": "retry"})
        finally:
            sidekiq.send_signal(signal.SIGKILL)
    assert server.command("ZCARD", "dead") == 1
