"""Options beside a real Ruby Sidekiq: what a class declares is carried by its jobs, and an odd `retry` is run, as Ruby carries and runs them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from fail_app import fail
from servers import ROOT, Server, Worker, wait_for
from test_ruby import has_sidekiq, required

from trioworkers import Client

HERE = Path(__file__).parent
pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(not required and not has_sidekiq(), reason="Ruby's Sidekiq is not installed"),
]
RETRIES = (
    *('"5"', "2.0", "0.0", '"true"', '"false"', '""', "[]", "{}", "1e30", '"x"'),
    *("true", "false", "null", "0", "1", "5", "-1", "-100", "99999999999"),
)
"""As other programs may write it. (An integer that no machine could count is left out: Ruby's fails in the arithmetic that we bound.)"""


@pytest.fixture
def sidekiq(server: Server) -> Iterator[None]:
    command = ["sidekiq", "-r", str(HERE / "fail.rb"), "-q", "ruby", "-c", "2", "-t", "1"]
    environment = {**os.environ, "REDIS_URL": server.url}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        yield
        process.terminate()


def ends(server: Server) -> dict[str, tuple[str, dict[str, Any]]]:
    """By jid, where it is and what it says of its retries."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for place in ("retry", "dead"):
        for payload in server.command("ZRANGE", place, "0", "-1"):
            fields = json.loads(payload)
            said = {name: fields.get(name) for name in ("retry", "retry_count")}
            found[fields["jid"]] = (place, said)
    return found


@pytest.mark.parametrize("count", ["null", "0"])
def test_every_retry_is_run_as_ruby_runs_it(
    server: Server, sidekiq: None, run_worker: Callable[..., Worker], count: str
):
    run_worker(server.url, "still_app:app", APP="fail_app", PYTHONPATH=f"{ROOT}:{HERE}").wait_started()
    for queue in ("ruby", "python"):
        for number, retry in enumerate(RETRIES):
            payload = f'{{"class":"Fail","args":[],"jid":"{queue}{number}","retry":{retry},"retry_count":{count},"failed_at":1.5e9}}'
            server.command("LPUSH", f"queue:{queue}", payload)
    wait_for(lambda: server.command("GET", "stat:failed") == str(2 * len(RETRIES)), "all have failed")
    wait_for(lambda: not server.command("KEYS", "queue:*inprogress"), "all are settled")
    found = ends(server)
    assert len(found) == 2 * (len(RETRIES) - 1)  # `false` alone keeps nothing
    for number, retry in enumerate(RETRIES):
        assert found.get(f"python{number}") == found.get(f"ruby{number}"), retry


def test_our_jobs_carry_what_rubys_carry(server: Server):
    push = "require ARGV[0]; Sidekiq.redis = {url: ENV['REDIS_URL']}; Fail.set(queue: 'ruby').perform_async(1)"
    environment = {**os.environ, "REDIS_URL": server.url}
    subprocess.run(
        ["ruby", "-rsidekiq", "-e", push, str(HERE / "fail.rb")], env=environment, check=True, capture_output=True
    )

    async def send() -> None:
        async with Client(server.url) as client:
            await client.enqueue(fail.job(1))

    trio.run(send)
    theirs, ours = (
        json.loads(server.command("LRANGE", f"queue:{queue}", "0", "-1")[0]) for queue in ("ruby", "python")
    )
    own = {"jid", "created_at", "enqueued_at", "queue"}
    assert {name: value for name, value in ours.items() if name not in own} == {
        name: value for name, value in theirs.items() if name not in own and (name, value) != ("dead", True)
    }
    assert ours.keys() - {"dead"} == theirs.keys() - {"dead"}
