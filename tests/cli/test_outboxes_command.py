"""`trioworkers outboxes`: what waits in one shard for another is shown, written out, and what can't go is skipped, whatever it is."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from click.testing import CliRunner
from servers import Server

from trioworkers import App, Batch, Job, Unique
from trioworkers.broker.redis.connection import Connection, connect
from trioworkers.broker.redis.link import Link
from trioworkers.broker.sender import Sender
from trioworkers.broker.shard_outbox import ShardOutbox
from trioworkers.cli.commands import app as commands
from trioworkers.engine.forwarding import Forwarder
from trioworkers.send import Send
from trioworkers.sending import Sending
from trioworkers.shards import Shard
from trioworkers.wire.keys import Keys
from trioworkers.wire.outbox_entry import decode_outbox_entry
from trioworkers.wire.packing import pack

HERE, THERE = Keys("na"), Keys("nb")
APP = """
from trioworkers import App, Shard

app = App(shards={{"a": Shard({url!r}, namespace="na"), "b": Shard({url!r}, namespace="nb")}})
app.queue("q", shards=["b"])
"""


def written(outbox: ShardOutbox, sending: Sending, *jobs: Job, delay_s: float | None = None) -> list[bytes]:
    """The entries that a job's end writes when it has enqueued these."""
    push, _ = outbox.work(sending, [Send(job, delay_s) for job in jobs], 1.5e9)[:2]
    [(_, key, entries, _, _)] = push
    assert key == HERE.outbox("b")
    return list(entries)


def both(url: str, use: Callable[[dict[str, ShardOutbox], dict[str, Sender], Connection], Any]) -> Any:
    """What `use` makes of the outboxes of the shards a and b."""
    app = App(shards={"a": Shard(url, namespace="na"), "b": Shard(url, namespace="nb")})
    app.queue("q", shards=["b"])
    layout = app.layout
    assert layout is not None

    async def main() -> Any:
        async with connect(url, Link(url)) as connection:
            senders = {"a": Sender.of(connection, Sending(HERE)), "b": Sender.of(connection, Sending(THERE))}
            used = use({name: ShardOutbox(name, senders, layout) for name in "ab"}, senders, connection)
            return await used if hasattr(used, "__await__") else used

    return trio.run(main)


def entry(url: str, *jobs: Job, delay_s: float | None = None) -> bytes:
    def make(its: dict[str, ShardOutbox], senders: dict[str, Sender], _: Connection) -> bytes:
        [made] = written(its["a"], senders["a"].sending, *jobs, delay_s=delay_s)
        return made

    found: bytes = both(url, make)
    return found


@pytest.fixture
def target(tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outboxed.py").write_text(APP.format(url=redis_url))
    yield "outboxed.py:app"
    sys.modules.pop("outboxed", None)


@pytest.fixture
def put(shared_server: Server, redis_url: str) -> Callable[..., None]:
    def put(*entries: bytes) -> None:
        shared_server.command("RPUSH", HERE.outbox("b"), *entries)
        shared_server.command("SADD", HERE.outboxes, "b")

    return put


def run(*words: str, status: int = 0) -> Any:
    done = CliRunner().invoke(commands, [*words])
    assert done.exit_code == status, (done.output, done.exception)
    return done


def rows(*words: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run(*words, "--json").stdout.splitlines()]


def test_what_waits_is_listed_and_shown(target: str, redis_url: str, put: Callable[..., None]):
    assert "nothing waits for another shard" in run("outboxes", "--redis", target).stderr
    put(entry(redis_url, Job("q", "A", [1]), Job("q", "A", [2])), entry(redis_url, Job("q", "B", [3]), delay_s=60))
    [found] = rows("outboxes", "--redis", target)
    assert (found["shard"], found["target"], found["entries"], found["problem"]) == ("a", "b", 2, "")
    assert found["age"] > 1e6
    shown = rows("outboxes", "show", "b", "--redis", target)
    assert [(row["queue"], row["class"], row["args"]) for row in shown] == [
        ("q", "A", [1]),
        ("q", "A", [2]),
        ("q", "B", [3]),
    ]
    assert shown[0]["entry"] == shown[1]["entry"] != shown[2]["entry"]
    assert "… and more" in run("outboxes", "show", "b", "--redis", target, "--limit", "2").stderr
    assert "jobs for the shard 'b' wait here" in run("ps", "--redis", f"{target}@a").stderr
    assert "something waits for shard 'b': what 2 jobs enqueued there" in run("doctor", "--redis", f"{target}@a").stdout
    run("outboxes", "show", "c", "--redis", target, status=1)


def test_members_and_unique_jobs_are_seen_as_well(redis_url: str):
    batch = Batch("order")
    first = batch.add(Job("q", "Charge", [1], runs_here=True))
    batch.add(Job("q", "Ship", [2], runs_here=True), after=[first])
    app = App(redis_url)

    @app.handler("q", "Sync", unique=Unique())
    async def sync(customer: int) -> None: ...

    members = decode_outbox_entry(entry(redis_url, *batch.members()))
    alone = decode_outbox_entry(entry(redis_url, sync.job(3)))
    assert members.is_readable
    assert sorted((job.job_class, job.queue) for job in members.jobs) == [("Charge", "q"), ("Ship", "q")]
    assert [(job.job_class, job.queue) for job in alone.jobs] == [("Sync", "q")]


def test_what_is_written_out_comes_into_its_queue(
    target: str, redis_url: str, put: Callable[..., None], shared_server: Server, tmp_path: Path
):
    put(entry(redis_url, Job("q", "A", [1]), Job("q", "A", [2])))
    run("outboxes", "export", "b", "--redis", f"{target}@a", "--output", str(tmp_path / "jobs"))
    assert shared_server.command("LLEN", HERE.outbox("b")) == 1
    run("import", str(tmp_path / "jobs"), "--redis", f"{target}@b")
    assert [row["args"] for row in rows("jobs", "q", "--redis", f"{target}@b")] == [[1], [2]]


@pytest.mark.parametrize("numbered", [False, True], ids=["new", "numbered"])
def test_what_cannot_go_is_skipped_and_the_rest_goes(
    target: str, redis_url: str, put: Callable[..., None], shared_server: Server, numbered: bool
):
    def forward(its: dict[str, ShardOutbox], _: Any, connection: Connection) -> Any:
        async def run() -> None:
            with trio.move_on_after(30):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(Forwarder("a", its).run)
                    while await connection.execute("test", "LLEN", HERE.outbox("b")) > left:
                        await trio.sleep(0.01)
                    nursery.cancel_scope.cancel()

        return run()

    if numbered:
        left = 0
        put(entry(redis_url, Job("q", "A", [0])))
        both(redis_url, forward)
    put(b"x" * 24 + b"garbage", entry(redis_url, Job("q", "A", [1])))
    done = run("outboxes", "skip", "b", "--redis", f"{target}@a", status=1)
    assert "--yes" in done.stderr or "--yes" in str(done.exception)
    assert "skipped, with 0 jobs" in run("outboxes", "skip", "b", "--yes", "--redis", f"{target}@a").stdout
    left = 0
    both(redis_url, forward)
    assert [row["args"] for row in rows("jobs", "q", "--redis", f"{target}@b")] == [[0], [1]] if numbered else [[1]]
    run("outboxes", "skip", "b", "--yes", "--redis", f"{target}@a", status=1)


def test_skipped_jobs_are_written_first(target: str, redis_url: str, put: Callable[..., None]):
    put(entry(redis_url, Job("q", "A", [1])))
    lines = run("outboxes", "skip", "b", "--yes", "--redis", f"{target}@a").stdout.splitlines()
    assert json.loads(lines[0])["in"] == "queue"
    assert lines[1].endswith("skipped, with 1 job")


@pytest.mark.parametrize(
    "forged",
    [
        b"",
        b"x",
        b"\xff" * 30,
        b"x" * 24 + pack([1, 2]),
        b"x" * 24 + pack([[["q", "k", [7], "LPUSH", "s"]], []]),
        b"x" * 24 + pack([[], [], "own", [[1]]]),
    ],
    ids=repr,
)
def test_what_others_wrote_there_is_readable(target: str, put: Callable[..., None], forged: bytes, redis_url: str):
    put(forged, entry(redis_url, Job("q", "A", [1])))
    done = run("outboxes", "show", "b", "--redis", f"{target}@a", "--json")
    assert json.loads(done.stdout)["args"] == [1]
    assert "is no entry of an outbox" in done.stderr
    assert [row["entries"] for row in rows("outboxes", "--redis", f"{target}@a")] == [2]


def test_outbox_of_the_wrong_type_is_told(target: str, shared_server: Server):
    shared_server.command("SET", HERE.outbox("b"), "garbage")
    shared_server.command("SADD", HERE.outboxes, "b")
    [row] = rows("outboxes", "--redis", f"{target}@a")
    assert "wrong kind of value" in row["problem"]
    assert "can't be read" in run("doctor", "--redis", f"{target}@a", status=1).stdout


def test_names_that_others_wrote_are_looked_at_within_bounds(target: str, shared_server: Server):
    shared_server.command("SADD", HERE.outboxes, *(f"forged{number}" for number in range(500)))
    assert len(rows("outboxes", "--redis", f"{target}@a")) == 50
    assert "shown are 50 of them" in run("outboxes", "--redis", f"{target}@a").stderr
    assert run("ps", "--redis", f"{target}@a").stderr.count("wait here") == 50


@pytest.mark.parametrize(
    ("words", "told"),
    [(("drop", "b"), "show, export or skip"), (("show",), "for which shard")],
)
def test_wrong_usage(words: tuple[str, ...], told: str, target: str):
    done = CliRunner().invoke(commands, ["outboxes", *words, "--redis", target])
    assert done.exit_code != 0
    assert told in str(done.exception) + done.output


def test_names_of_another_type_are_one_line_and_keep_no_processes_from_being_shown(target: str, shared_server: Server):
    shared_server.command("SET", HERE.outboxes, "no set")
    done = run("outboxes", "--redis", f"{target}@a", status=1)
    assert HERE.outboxes in str(done.exception)
    assert "\n" not in str(done.exception)
    shown = run("ps", "--redis", target).stderr
    assert f"can't be read: {HERE.outboxes}: " in shown
    assert shown.count("no process is running") == 1
