"""Odd payloads on our own queue: what Ruby's Sidekiq runs we run, with the same arguments; what it retries we retry, with the same spelling."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from servers import ROOT, Server, Worker, wait_for
from test_ruby import pytestmark as needs_sidekiq

pytestmark = needs_sidekiq

HERE = Path(__file__).parent
RUN = [
    '{"class":"Odd","args":[1],"jid":"a","retry":"5"}',
    '{"class":"Odd","args":[2],"jid":"b","retry":2.0}',
    '{"class":"Odd","args":[3],"jid":42,"retry":"true"}',
    '{"class":"Odd","args":[4],"jid":"","retry":true}',
    '{"class":"Odd","args":[5],"jid":"' + "j" * 300 + '","retry":true}',
    '{"class":"Odd","args":[6],"jid":"c","retry":true,"retry_queue":"low prio"}',
    '{"class":"Odd","args":[7],"jid":"d","retry":true,"retry_count":"2"}',
    '{"class":"Odd","args":{"n":8},"jid":"e","retry":true}',
    '{"class":"Odd","args":"nine","jid":"f","retry":true}',
    '{"class":"Odd","args":10,"jid":"g","retry":true}',
    '{"class":"Odd","args":[11],"retry":true}',
    '{"class":"Odd","args":[12],"jid":"h","retry":true,"created_at":' + "9" * 310 + ',"enqueued_at":' + "9" * 310 + "}",
    '{"class":"Odd","args":[13],"jid":"i","retry":'
    + "9" * 400
    + ',"retry_for":"x","backtrace":"all","tags":7,"dead":"no"}',
    '{"class":"Odd","args":[14,-0.0,1e-400,' + "9" * 4000 + '],"jid":"q","retry":true,"mine":1e400}',
]
FAIL = [
    '{"class":"Odd","args":["fail",1],"jid":"k","queue":"q","retry":"5"}',
    '{"class":"Odd","args":["fail",2],"jid":"l","queue":"q","retry":2.0}',
    '{"class":"Odd","args":["fail",3],"jid":"m","queue":"q","retry":"false"}',
    '{"class":"Odd","args":["fail",4],"jid":"n","queue":"q","retry":true,"retry_queue":"low prio"}',
    '{"class":"Odd","args":["fail",5],"jid":42,"queue":"q","retry":true}',
    '{"class":"Odd","args":["fail",6],"jid":"o","queue":"q","retry":' + "9" * 400 + "}",
    '{"class":"Odd","args":["fail",7],"jid":"p","queue":"q","retry":5,"retry_count":2.0}',
]
DIFFER = {"error_message", "error_class", "error_backtrace", "failed_at", "retried_at", "enqueued_at"}


def filled(server: Server) -> Callable[[], bool]:
    server.command("FLUSHALL")
    server.command("LPUSH", "queue:q", *RUN, *FAIL)

    def done() -> bool:
        return server.command("ZCARD", "retry") == len(FAIL) and server.command("GET", "stat:processed") == str(
            len(RUN) + len(FAIL)
        )

    return done


def retries(server: Server) -> dict[str, dict[str, Any]]:
    payloads = server.command("ZRANGE", "retry", 0, -1)
    assert isinstance(payloads, list)
    jobs = [json.loads(payload) for payload in payloads]
    return {json.dumps(job["args"]): {name: job[name] for name in job if name not in DIFFER} for job in jobs}


def test_what_ruby_runs_we_run_and_what_it_retries_we_retry(
    server: Server, tmp_path: Path, run_worker: Callable[..., Worker]
):
    done = filled(server)
    command = ["sidekiq", "-r", str(HERE / "odd.rb"), "-q", "q", "-c", "1", "-t", "1"]
    environment = {**os.environ, "REDIS_URL": server.url}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as sidekiq:
        try:
            wait_for(
                lambda: server.command("ZCARD", "retry") == len(FAIL) and server.command("LLEN", "ran") == len(RUN),
                "Ruby ran them",
                60,
            )
        finally:
            sidekiq.send_signal(signal.SIGTERM)
    rubys_runs, rubys_retries = server.command("LRANGE", "ran", 0, -1), retries(server)

    done, ran = filled(server), tmp_path / "ran"
    path = os.pathsep.join(map(str, (ROOT, HERE)))
    worker = run_worker(server.url, "still_app:app", APP="odd_app", RAN=str(ran), PYTHONPATH=path)
    wait_for(done, lambda: worker.text)
    assert sorted(ran.read_text().splitlines()) == sorted(rubys_runs)  # type: ignore[type-var, arg-type]
    assert retries(server) == rubys_retries
    assert server.command("EXISTS", "dead") == 0
