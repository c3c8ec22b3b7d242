"""A Redis that answers, but takes no writes or isn't one by itself: whoever asks hears what it said, not that it is silent, and `doctor` finds it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from coredis import exceptions
from servers import Server

from trioworkers import Job, Unavailable
from trioworkers.broker.redis.link import Link
from trioworkers.broker.redis.translation import translate
from trioworkers.cli.commands import app
from trioworkers.sync import Client
from trioworkers.wire.error_replies import SLOT_ELSEWHERE

HOW_TO_WRITE_IT = "; a cluster's URL is redis+cluster://HOST:PORT, and its namespace a pair of braces, like {shop}"
STATES = {
    "replica": ([("REPLICAOF", "127.0.0.1", "1")], "You can't write against a read only replica"),
    "full": ([("CONFIG", "SET", "maxmemory", "1")], "OOM command not allowed"),
    "alone": ([("CONFIG", "SET", "min-replicas-to-write", "1")], "NOREPLICAS Not enough good replicas"),
    "cut off": (
        [("CONFIG", "SET", "replica-serve-stale-data", "no"), ("REPLICAOF", "127.0.0.1", "1")],
        "MASTERDOWN Link with MASTER is down",
    ),
}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Server]:
    """A node of a cluster that has no other."""
    server = Server(tmp_path).start("--cluster-enabled", "yes")
    yield server
    server.kill()


def failing(*words: str) -> str:
    """What a command says that fails."""
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 1, done.output
    return str(done.exception)


@pytest.mark.parametrize("state", STATES)
def test_what_redis_said_is_passed_on_as_its_answer(server: Server, state: str):
    commands, words = STATES[state]
    for command in commands:
        server.command(*command)
    text = failing(*(["ps"] if state == "cut off" else ["pause", "q"]), "--redis", server.url)
    assert text.startswith(f"Redis at {server.url} (--redis) can't do it now: ")
    assert words in text
    with pytest.raises(Unavailable, match=r"\(the client's URL\) can't do it now: "), Client(server.url) as client:
        client.enqueue(Job("q", "A"))


@pytest.mark.parametrize("state", STATES)
def test_doctor_calls_it_a_problem(server: Server, state: str):
    for command in STATES[state][0]:
        server.command(*command)
    done = CliRunner().invoke(app, ["doctor", "--grace", "60", "--redis", server.url])
    assert done.exit_code == 1
    assert [line.split()[1] for line in done.stdout.splitlines() if line.startswith("problem")] == [
        {"full": "eviction", "cut off": "redis"}.get(state, "role")
    ]


def test_node_of_a_cluster_is_known_by_whatever_it_says(node: Server):
    assert failing("ps", "--redis", node.url).endswith(HOW_TO_WRITE_IT)
    node.command("CONFIG", "SET", "cluster-require-full-coverage", "no")
    node.command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    for command in (["stats"], ["purge", "q", "--yes"]):
        assert failing(*command, "--redis", node.url).endswith(HOW_TO_WRITE_IT)
    found = CliRunner().invoke(app, ["doctor", "--redis", node.url]).stdout
    assert HOW_TO_WRITE_IT.removeprefix("; ") in " ".join(found.split())


@pytest.mark.parametrize("kind", [exceptions.MovedError, exceptions.AskError])
async def test_worker_says_of_a_slot_elsewhere_what_that_means(kind: type[Exception], caplog: pytest.LogCaptureFixture):
    error = translate(kind("9259 127.0.0.1:7001"))
    link = Link("redis://127.0.0.1:1/0")
    link.succeeded("fetch")
    link.failed("fetch", error, float("inf"))
    assert caplog.messages == [
        f"Redis at redis://127.0.0.1:1/0 can't serve us ({SLOT_ELSEWHERE}{HOW_TO_WRITE_IT}); running jobs go on, the rest waits"
    ]
