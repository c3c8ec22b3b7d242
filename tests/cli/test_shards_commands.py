"""Commands whose `--redis` names an App with shards: they look into all of them and say which, and act in the one where a job is."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from servers import Server, Worker, wait_for

from trioworkers.cli.commands import app as commands
from trioworkers.cli.shards import names_an_app
from trioworkers.cli.which_redis import which_redis
from trioworkers.errors import WrongUsage
from trioworkers.jobs.client import Client
from trioworkers.wire.ended import encode_ended

APP = """
from trioworkers import App, Shard

app = App(shards={{"a": Shard({a!r}, namespace="na"), "b": Shard({b!r}, namespace="nb")}})
app.queue("q", shards=["a", "b"])
other = App({a!r}, namespace="na")


@app.handler("q", "A")
async def nothing() -> None: ...


other.handler("q", "A")(nothing.function)
"""


@pytest.fixture
def target(tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spread.py").write_text(APP.format(a=redis_url, b=redis_url))
    yield "spread.py:app"
    for name in ("spread", "away"):
        sys.modules.pop(name, None)


def payload(number: int, **fields: object) -> str:
    return json.dumps(
        {"class": "A", "args": [number], "jid": f"jid{number:09}", "queue": "q", "enqueued_at": 1.5e9, **fields}
    )


@pytest.fixture
def jobs(shared_server: Server, target: str) -> str:
    """Three in one shard's queue, two in the other's, one in each dead set."""
    for number in range(5):
        name = "na" if number < 3 else "nb"
        shared_server.command("SADD", f"{name}:queues", "q")
        shared_server.command("LPUSH", f"{name}:queue:q", payload(number))
    for number, name in ((10, "na"), (11, "nb")):
        shared_server.command("ZADD", f"{name}:dead", 1.6e9, payload(number, error_class="E", error_message="m"))
    return target


def run(*words: str, status: int = 0) -> Any:
    done = CliRunner().invoke(commands, [*words])
    assert done.exit_code == status, (done.output, done.exception)
    return done


def rows(*words: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run(*words, "--json").stdout.splitlines()]


def test_lists_show_all_shards_and_in_which_each_job_is(jobs: str):
    found = rows("jobs", "q", "--redis", jobs)
    assert [(row["shard"], row["args"]) for row in found] == [
        ("a", [0]),
        ("a", [1]),
        ("a", [2]),
        ("b", [3]),
        ("b", [4]),
    ]
    assert [row["shard"] for row in rows("dead", "--redis", jobs)] == ["a", "b"]
    assert [(row["shard"], row["size"]) for row in rows("queues", "--redis", jobs)] == [("a", 3), ("b", 2)]
    assert [row["jid"] for row in rows("jobs", "q", "--where", "jid=jid000000004", "--redis", jobs)] == ["jid000000004"]


def test_tables_have_a_column_for_it(jobs: str):
    lines = run("jobs", "q", "--redis", jobs).stdout.splitlines()
    assert [line.split("\t")[0] for line in lines] == ["a", "a", "a", "b", "b"]


def test_exported_file_has_the_jobs_of_all_shards_or_is_not_there(jobs: str, away: str, tmp_path: Path):
    output = tmp_path / "jobs.jsonl"
    run("export", "queue:q", "-o", str(output), "--redis", away, status=1)
    assert not output.exists()
    run("export", "queue:q", "-o", str(output), "--redis", jobs)
    assert len(output.read_text().splitlines()) == 5


def test_show_finds_a_job_wherever_it_is(jobs: str):
    [found] = rows("show", "jid000000004", "--redis", jobs)
    assert found["shard"] == "b"


def test_job_that_is_in_no_shard_is_not_found(jobs: str):
    done = CliRunner().invoke(commands, ["show", "jid000000999", "--redis", jobs])
    assert done.exit_code != 0
    assert "jid000000999" in str(done.exception)


def test_stats_are_of_all_together(jobs: str):
    [found] = rows("stats", "--redis", jobs)
    assert (found["enqueued"], found["dead"]) == (5, 2)


def test_acting_commands_go_to_the_shard_of_the_job(jobs: str, shared_server: Server):
    run("retry", "jid000000011", "--redis", jobs)
    assert shared_server.command("ZCARD", "nb:dead") == 0
    assert shared_server.command("ZCARD", "na:dead") == 1
    assert shared_server.command("LLEN", "nb:queue:q") == 3
    run("delete", "jid000000000", "--yes", "--redis", jobs)
    assert shared_server.command("LLEN", "na:queue:q") == 2


def test_queue_is_paused_in_all_shards(jobs: str, shared_server: Server):
    run("pause", "q", "--redis", jobs)
    assert [shared_server.command("SMEMBERS", f"{name}:paused") for name in ("na", "nb")] == [["q"], ["q"]]


def test_one_shard_can_be_named(jobs: str):
    assert {row["args"][0] for row in rows("jobs", "q", "--redis", f"{jobs}@b")} == {3, 4}
    done = CliRunner().invoke(commands, ["jobs", "q", "--redis", f"{jobs}@c"])
    assert "has no shard 'c'; it has a, b" in str(done.exception)
    done = CliRunner().invoke(commands, ["jobs", "q", "--redis", jobs, "--namespace", "x"])
    assert "each shard of the App has its own" in str(done.exception)


def test_app_with_one_redis_is_as_its_url(jobs: str):
    found = rows("jobs", "q", "--redis", "spread.py:other")
    assert len(found) == 3
    assert "shard" not in found[0]


def test_jobs_are_enqueued_where_they_belong(target: str, shared_server: Server):
    for _ in range(12):
        run("enqueue", "q", "A", "--redis", target)
    sizes = [shared_server.command("LLEN", f"{name}:queue:q") for name in ("na", "nb")]
    assert sum(map(int, map(str, sizes))) == 12


def test_job_is_enqueued_into_the_shard_that_is_named(target: str, shared_server: Server):
    for name in ("a", "b", "a"):
        run("enqueue", "q", "A", "--redis", f"{target}@{name}")
    assert [shared_server.command("LLEN", f"{name}:queue:q") for name in ("na", "nb")] == [2, 1]


@pytest.mark.parametrize(
    ("words", "shard", "told"),
    [
        (["there", "A"], "a", "queue 'there' lies in shard 'b', not in shard 'a'"),
        (
            ["q", "Once"],
            "b",
            "Once: jobs that share its lock or limit lie in shard 'a', so it can't be sent into shard 'b'",
        ),
        (["q", "A"], "c", "has no shard 'c'; it has a, b"),
    ],
    ids=["queue", "lock", "shard"],
)
def test_job_is_not_enqueued_where_it_may_not_lie(
    target: str, shared_server: Server, tmp_path: Path, words: list[str], shard: str, told: str
):
    with (tmp_path / "spread.py").open("a") as file:
        file.write(
            "\nfrom trioworkers import Unique\napp.queue('there', shards=['b'])\n"
            "app.handler('q', 'Once', unique=Unique())(nothing.function)\n"
        )
    done = CliRunner().invoke(commands, ["enqueue", *words, "--redis", f"{target}@{shard}"])
    assert told in f"{done.output}{done.exception}"
    assert done.exit_code != 0
    assert shared_server.command("KEYS", "*") == []


@pytest.fixture
def away(jobs: str, tmp_path: Path, shared_server: Server) -> str:
    """The same, with `b` at an address where nobody is."""
    text = (tmp_path / "spread.py").read_text()
    text = text.replace(f"Shard('{shared_server.url}', namespace=\"nb\")", "Shard('redis://127.0.0.1:1/0')")
    (tmp_path / "away.py").write_text(f"{text}\napp.queue('here', shards=['a'])\napp.queue('there', shards=['b'])\n")
    return "away.py:app"


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["jobs", "q"], "jid000000000"),
        (["queues"], "q\t"),
        (["stats"], "dead 1"),
        (["pause", "q"], "q: paused"),
        (["cron", "create", "n", "@daily", "here", "A"], "n: next"),
        (["delete", "jid000000000", "--yes"], "deleted"),
    ],
    ids=lambda words: words[0] if isinstance(words, list) else "",
)
def test_shard_that_is_away_keeps_the_others_from_nothing(away: str, words: list[str], shown: str):
    done = CliRunner().invoke(commands, [*words, "--redis", away])
    assert shown in done.stdout
    assert f"{done.stderr}{done.exception}".count("no answer from Redis at redis://127.0.0.1:1/0") == 1
    assert done.exit_code != 0
    assert "no answer from shard b" in str(done.exception) or words[0] == "cron"


def test_periodic_job_whose_shard_is_away_is_not_created(away: str, shared_server: Server):
    done = CliRunner().invoke(commands, ["cron", "create", "n", "@daily", "there", "A", "--redis", away])
    assert "next" not in done.stdout
    assert str(done.exception).startswith("no answer from Redis at redis://127.0.0.1:1/0")
    assert periodic_jobs(shared_server)[0] == []


def test_job_that_has_ended_in_one_shard_is_all_that_a_watch_wants_to_know(
    away: str, shared_server: Server, tmp_path: Path
):
    """Whatever shard is away, before or after it: `watch JID && …` goes by the job."""
    first = (
        (tmp_path / "away.py").read_text().replace('"a": Shard', '"c": Shard(\'redis://127.0.0.1:2/0\'), "a": Shard')
    )
    (tmp_path / "away.py").write_text(first)
    shared_server.command("SET", "na:tw:result:jid000000000", encode_ended("succeeded", b"7"))
    for command in ("result", "watch"):
        assert "no answer" not in run(command, "jid000000000", "--redis", away).stderr


def test_a_command_for_one_redis_says_what_to_write(target: str):
    with pytest.raises(WrongUsage, match="this command is for one Redis") as raised:
        which_redis(target)
    assert f"{target}@SHARD (a, b)" in str(raised.value)


@pytest.mark.parametrize(
    "text", ["redis://h", "localhost:6379", "unix:///a.py", "embedded:", "embedded:dir", "host", "10.0.0.1:app"]
)
def test_urls_and_addresses_name_no_app(text: str):
    assert not names_an_app(text)


@pytest.mark.parametrize("text", ["app.py", "app.py:app", "handlers:app", "a.b:c.d", "app.py@a", "handlers:app@a-1"])
def test_targets_do(text: str):
    assert names_an_app(text)


def periodic_jobs(server: Server) -> list[object]:
    return [server.command("ZRANGE", f"{name}:tw:cron", 0, -1) for name in ("na", "nb")]


def test_periodic_job_is_created_in_the_one_shard_of_its_job(target: str, shared_server: Server):
    done = run("cron", "create", "nightly", "@daily", "q", "A", "--redis", target)
    assert sorted(map(str, periodic_jobs(shared_server))) == ["['nightly']", "[]"]
    assert done.stdout.count("nightly: next") == 1
    run("cron", "create", "nightly", "@hourly", "q", "A", "--redis", target)
    assert sorted(map(str, periodic_jobs(shared_server))) == ["['nightly']", "[]"]
    run("cron", "create", "there", "@daily", "q", "A", "--redis", f"{target}@b")
    assert "there" in str(periodic_jobs(shared_server)[1])
    assert "there" not in str(periodic_jobs(shared_server)[0])


@pytest.mark.parametrize("number", [0, 4])
def test_result_is_waited_for_in_the_shard_of_the_job_only(jobs: str, number: int, monkeypatch: pytest.MonkeyPatch):
    waited: list[str] = []

    async def no_result(self: Client, jid: str, *, timeout: float | None = None) -> None:  # noqa: ASYNC109 - as it is called
        waited.append(jid)
        raise TimeoutError

    monkeypatch.setattr(Client, "result", no_result)
    jid = f"jid{number:09}"
    done = CliRunner().invoke(commands, ["result", jid, "--wait", "1", "--redis", jobs])
    assert waited == [jid]
    assert str(done.exception) == f"no result of job {jid} is kept; it is in queue q"


def test_result_of_a_job_that_is_in_no_shard_is_not_waited_for(jobs: str):
    done = CliRunner().invoke(commands, ["result", "jid000000999", "--wait", "3600", "--redis", jobs])
    assert "no result of job jid000000999 is kept; it is nowhere" in str(done.exception)


@pytest.mark.parametrize("process_id", [None, "w1"])
def test_stats_count_a_worker_of_all_shards_once(
    target: str, shared_server: Server, run_worker: Callable[..., Worker], process_id: str | None
):
    named = [] if process_id is None else ["--process-id", process_id]
    run_worker(f"{shared_server.url.rpartition('/')[0]}/1", target, *named)
    for name in ("na", "nb"):
        wait_for(lambda name=name: shared_server.command("SCARD", f"{name}:processes") == 1, "it is there")  # type: ignore[misc]
    [found] = rows("stats", "--redis", target)
    assert (found["processes"], found["slots"]) == (1, 10)
    shown = run("ps", "--redis", target).stdout.split("\t")
    assert (shown[1], shown[4]) == ("a b", "0/10")
    [whole] = rows("ps", shown[0], "--tree", "--redis", target)
    assert (whole["process"], whole["shards"], whole["tree"]) == (shown[0], ["a", "b"], [])
    assert process_id is None or shown[0] == process_id
