"""`trioworkers cron`: with a real worker, with entries that live in Redis only, and on what others wrote there."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from acting import act, refused
from any_client import KINDS, AnyClient
from servers import Server, Worker, wait_for

from trioworkers import ConfigurationError, Job

RunWorker = Callable[..., Worker]


def rows(server: Server, *words: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in act(server.url, "cron", *words, "--json").stdout.splitlines()]


def runs(path: Path) -> list[list[str]]:
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def test_what_a_worker_declares_is_shown_run_paused_and_resumed(run_worker: RunWorker, server: Server, tmp_path: Path):
    options = ("--process-id", "w1", "--lease", "2")
    run_worker(server.url, "cron_app:app", *options, RUNS=str(tmp_path / "runs"), IDLE="1").wait_started()
    wait_for(lambda: len(runs(tmp_path / "runs")) >= 2, "it ticks")
    found = {row["name"]: row for row in rows(server)}
    assert found.keys() == {"q/Tick/each0", "q/Tick/idle0"}
    assert (found["q/Tick/idle0"]["expression"], found["q/Tick/idle0"]["origin"]) == ("0 0 1 1 *", "code")
    wait_for(lambda: "succeeded" in {row["how"] for row in rows(server, "history", "each0")}, "runs end")

    assert "paused" in act(server.url, "cron", "pause", "each0").stdout
    assert next(row for row in rows(server) if row["name"] == "q/Tick/each0")["paused"]
    sent = act(server.url, "cron", "run", "idle0").stdout.strip()
    wait_for(lambda: sent in {jid for *_, jid in runs(tmp_path / "runs")}, "it runs now")
    wait_for(lambda: rows(server, "history", "idle0")[0]["how"] == "succeeded", "its history says so")
    assert rows(server, "history", "idle0")[0]["jid"] == sent

    before = len(runs(tmp_path / "runs"))
    assert "next" in act(server.url, "cron", "resume", "each0").stdout
    wait_for(lambda: len(runs(tmp_path / "runs")) > before, "it ticks again")
    assert "declared in code" in refused(server.url, "cron", "delete", "each0")
    assert "several periodic jobs are called Tick" in refused(server.url, "cron", "pause", "Tick")


def test_entry_that_lives_in_redis_only_is_created_changed_and_deleted(
    run_worker: RunWorker, server: Server, tmp_path: Path
):
    words = ("nightly", "0 4 * * *", "q", "Tick", "7", "--tz", "Europe/Berlin")
    assert "nightly: next " in act(server.url, "cron", "create", *words).stdout
    [row] = rows(server)
    assert (row["origin"], row["zone"], row["args"], row["class"]) == ("dynamic", "Europe/Berlin", [7], "Tick")
    assert "nightly" in act(server.url, "cron", "show", "nightly").stdout
    assert act(server.url, "cron", "history", "nightly").stdout == ""
    act(server.url, "cron", "create", "nightly", "@every 1s", "q", "Tick", "8")
    run_worker(server.url, "cron_app:app", RUNS=str(tmp_path / "runs"), ENTRIES="0").wait_started()
    wait_for(
        lambda: ["8"] in [line[:1] for line in runs(tmp_path / "runs")], "a worker that knows nothing of it sends it"
    )
    assert act(server.url, "cron", "delete", "nightly").stdout == "nightly: deleted\n"
    assert rows(server) == []
    assert server.command("KEYS", "tw:cron:*") == []
    assert "no periodic job is called nightly; there are: none" in refused(server.url, "cron", "delete", "nightly")


def test_expression_is_explained_without_a_redis():
    done = act("redis://127.0.0.1:1/0", "cron", "explain", "30 2 * * *", "--tz", "Europe/Berlin")
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert len(lines) == 5
    assert all(line[0].endswith("Europe/Berlin") and ":30:00" in line[0] and ":30:00" in line[1] for line in lines)


@pytest.mark.parametrize(
    "words",
    [
        ("explain", "* * * *"),
        ("explain", "@daily", "--tz", "Mars/Base"),
        ("explain",),
        ("pause",),
        ("pause", "a", "b"),
        ("create", "n", "@daily", "q"),
        ("create", "a/b", "@daily", "q", "A"),
        ("create", "n", "@never", "q", "A"),
        ("create", "n", "@daily", "q", "A", "--jitter", "-1"),
        ("create", "n", "@daily", "q", "A", "--missed", "some"),
        ("vanish", "n"),
    ],
)
def test_what_cannot_be_is_refused(server: Server, words: tuple[str, ...]):
    done = act(server.url, "cron", *words, status=2)
    assert done.exit_code == 2 or type(done.exception).__name__ == "WrongUsage"
    assert server.command("EXISTS", "tw:cron") == 0


def test_what_others_wrote_there_is_shown_as_broken_and_can_be_deleted(server: Server):
    server.command("ZADD", "tw:cron", 1, "\x1b[31mred", "inf", "list", 5, "odd")
    server.command("HSET", "tw:cron:\x1b[31mred", "definition", "junk")
    server.command("LPUSH", "tw:cron:list", "junk")
    server.command("HSET", "tw:cron:odd", "definition", '{"v":2}')
    server.command("HSET", "tw:runs:odd", "jid", "\x93\x05", "other", "junk")
    done = act(server.url, "cron")
    assert "\x1b" not in done.stdout
    assert done.stdout.count("broken") == 3
    assert act(server.url, "cron", "history", "odd").stdout == ""
    assert "can't be read" in refused(server.url, "cron", "run", "odd")
    act(server.url, "cron", "delete", "list")
    assert server.command("ZCARD", "tw:cron") == 2
    assert server.command("EXISTS", "tw:cron:list") == 0


@pytest.mark.parametrize("kind", KINDS)
def test_client_makes_and_deletes_entries_and_refuses_what_cannot_be(server: Server, kind: str):
    with closing(AnyClient(kind, server.url)) as client:
        client.periodic("n", "@every 10s", Job("q", "A", [1]), jitter=3)
        assert rows_of(server) == ["n"]
        assert rows(server)[0]["jitter"] == 3
        with pytest.raises(ConfigurationError, match="has 4 fields"):
            client.periodic("n", "* * * *", Job("q", "A"))
        with pytest.raises(ConfigurationError, match="a periodic job's name"):
            client.periodic("a/b", "@daily", Job("q", "A"))
        assert client.delete_periodic("n")
        assert not client.delete_periodic("n")
    assert rows_of(server) == []


def rows_of(server: Server) -> list[str]:
    found = server.command("ZRANGE", "tw:cron", 0, -1)
    assert isinstance(found, list)
    return found


def test_history_says_where_a_run_is_that_has_not_ended(run_worker: RunWorker, server: Server, tmp_path: Path):
    act(server.url, "cron", "create", "nightly", "0 4 * * *", "q", "Tick", "7")
    for _ in range(22):  # a history has an end, also where nobody ticks
        act(server.url, "cron", "run", "nightly")
    newest = rows(server, "history", "nightly")[0]
    assert (newest["how"], newest["where"]) == ("sent", "in queue q")
    assert len(rows(server, "history", "nightly")) == 20
    assert "in queue q" in act(server.url, "cron", "history", "nightly").stdout
    server.command("HSET", "tw:inprogress", "queue:q:w:inprogress", "w q")
    server.command("LMOVE", "queue:q", "queue:q:w:inprogress", "LEFT", "LEFT")
    assert rows(server, "history", "nightly")[0]["where"] == "running on w"
