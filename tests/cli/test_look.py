"""The commands that look, against a real Redis: what they say, and how little they ask for it."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from harness import Jobs
from servers import Server, Worker, free_port, wait_for

from trioworkers import Unavailable
from trioworkers.cli import tables, totals
from trioworkers.cli.commands import app
from trioworkers.failures import encode_backtrace

RunWorker = Callable[..., Worker]


def look(url: str, *words: str) -> list[str]:
    """The lines that a command prints in a pipe."""
    done = CliRunner().invoke(app, [*words, "--redis", url], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout.splitlines()


def look_json(url: str, *words: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in look(url, *words, "--json")]


def payload(number: int, **fields: object) -> str:
    job = {"class": "A", "args": [number], "jid": f"jid{number}", "queue": "q", "enqueued_at": 1.5e9 + number, **fields}
    return json.dumps(job)


def fill_queue(server: Server, count: int) -> None:
    server.command("SADD", "queues", "q")
    for start in range(0, count, 10_000):
        server.command("LPUSH", "queue:q", *[payload(n) for n in range(start, min(start + 10_000, count))])


def test_queue_shows_what_is_fetched_next_first_and_how_many_more(redis_url: str, shared_server: Server):
    fill_queue(shared_server, 60)
    done = CliRunner().invoke(app, ["jobs", "q", "--redis", redis_url])
    assert [line.split("\t")[1] for line in done.stdout.splitlines()] == [f"jid{n}" for n in range(25)]
    assert done.stderr == "… and 35 more: --limit 0 shows all\n"
    assert len(look(redis_url, "jobs", "q", "--limit", "0")) == 60


def test_first_rows_of_a_long_queue_cost_a_few_small_pages(redis_url: str, shared_server: Server):
    fill_queue(shared_server, 100_000)

    def sent() -> tuple[int, int]:
        stats = str(shared_server.command("INFO", "all"))
        # The first page is of one job and a command; the others are scripts, which read one job after the other.
        calls = sum(map(int, re.findall(r"cmdstat_eval(?:sha)?:calls=(\d+)", stats)))
        return calls, int(re.findall(r"total_net_output_bytes:(\d+)", stats)[0])

    calls, sent_bytes = sent()
    assert len(look(redis_url, "jobs", "q")) == 25
    calls_after, sent_bytes_after = sent()
    assert calls_after - calls <= 3  # how heavy they are shows with the first one
    assert sent_bytes_after - sent_bytes < 100_000
    assert len(look(redis_url, "jobs", "q", "--where", "args~99999")) == 1  # streams them all
    assert sent()[0] - calls_after <= 205


def test_sets_come_in_the_order_of_interest(redis_url: str, shared_server: Server):
    for n in range(3):
        for name in ("retry", "schedule", "dead"):
            shared_server.command(
                "ZADD", name, 2e9 + n, payload(n, error_class="E", error_message="boom", retry_count=n)
            )
    soonest = ["jid0", "jid1", "jid2"]
    assert [row["jid"] for row in look_json(redis_url, "retries")] == soonest
    assert [row["jid"] for row in look_json(redis_url, "scheduled")] == soonest
    assert [row["jid"] for row in look_json(redis_url, "dead")] == soonest[::-1]
    (row,) = look_json(redis_url, "retries", "--where", "attempt>2")
    assert (row["jid"], row["error_class"], row["attempt"], row["due_at"]) == ("jid2", "E", 3, 2e9 + 2)


def test_queue_that_our_workers_serve_in_another_dialect_is_shown_as_it_is(work: RunWorker, server: Server, jobs: Jobs):
    work("w1", TRIOWORKERS_DIALECT="resque", CONCURRENCY="1").wait_started()
    payloads = [f'{{"class":"Sleep","args":[{60 + n}],"jid":"jid{n}"}}' for n in range(4)]
    server.command("RPUSH", "resque:queue:q", *payloads)
    wait_for(lambda: jobs.counted("start"), "one runs")
    rows = {row["queue"]: row for row in look_json(server.url, "queues")}
    assert {name: (row["size"], row["processes"], row["dialect"]) for name, row in rows.items()} == {
        "q": (3, 1, "resque:resque"),
        "other": (0, 1, "resque:resque"),
    }
    assert [row["args"] for row in look_json(server.url, "jobs", "q")] == [[61], [62], [63]]
    assert [row["args"] for row in look_json(server.url, "jobs", "q", "--where", "args~62")] == [[62]]
    assert look_json(server.url, "show", "jid0")[0]["queue"] == "q"
    server.command("SADD", "queues", "q")
    server.command("LPUSH", "queue:q", payload(7))
    assert [row["jid"] for row in look_json(server.url, "jobs", "q")] == ["jid7"]  # what is ours by name comes first


def test_queues_show_size_latency_consumers_rate_and_pause(work: RunWorker, server: Server, jobs: Jobs):
    server.command("SADD", "queues", "orphan", "broken")
    server.command("SET", "queue:broken", "no list")
    server.command("LPUSH", "queue:orphan", payload(1))
    server.command("SADD", "paused", "orphan")
    work("w1", CONCURRENCY="2").wait_started()
    jobs.push(400, "Sleep", 0.1)  # enough for many heartbeats
    wait_for(lambda: any(row["rate"] > 0 for row in look_json(server.url, "queues")), "the rate is told")
    rows = {row["queue"]: row for row in look_json(server.url, "queues")}
    assert set(rows) == {"orphan", "broken", "q", "other"}
    assert "wrong kind" in rows["broken"]["problem"]
    orphan = rows["orphan"]
    assert (orphan["size"], orphan["processes"], orphan["slots"], orphan["paused"]) == (1, 0, 0, True)
    assert orphan["latency"] > 1e8
    assert rows["q"]["size"] > 0
    assert (rows["q"]["processes"], rows["q"]["slots"], rows["q"]["paused"]) == (1, 2, False)


def test_processes_are_shown_with_what_runs_and_where_it_awaits(work: RunWorker, server: Server, jobs: Jobs):
    server.command("SADD", "processes", "rb:7:x", "gone:8:y")
    info = {
        "hostname": "rb",
        "pid": 7,
        "queues": ["old"],
        "concurrency": 5,
        "labels": [],
        "version": "7.3.0",
        "tag": "web",
    }
    server.command("HSET", "rb:7:x", "info", json.dumps(info), "busy", 1, "beat", "1.5", "quiet", "true")
    ruby_job = {"queue": "old", "payload": payload(9), "run_at": 1_500_000_000}
    server.command("HSET", "rb:7:x:work", "t1", json.dumps(ruby_job))
    work().wait_started()
    jobs.push(2, "Sleep", 60)
    wait_for(lambda: any(row["running"] for row in look_json(server.url, "ps", "w1")), "the heartbeat tells it")
    ours, ruby = sorted(look_json(server.url, "ps", "--tree"), key=lambda row: row["kind"], reverse=True)
    assert (ours["process"], ours["queues"], ours["busy"]) == ("w1", {"q": 100, "other": 10}, 2)
    assert {job["jid"] for job in ours["running"]} == set(jobs.payloads)
    assert "await trio.sleep(seconds)" in ours["tree"][0]
    assert (ruby["process"], ruby["kind"], ruby["state"], ruby["tree"]) == ("rb:7:x", "sidekiq 7.3.0", "quiet", None)
    assert [job["jid"] for job in ruby["running"]] == ["jid9"]
    text = "\n".join(look(server.url, "ps"))
    assert re.search(r"^w1\ttrioworkers\trunning\t2/110", text, re.MULTILINE)
    (shown,) = look_json(server.url, "show", next(iter(jobs.payloads)))
    assert (shown["in"], shown["process"], "await trio.sleep" in shown["tree"][0]) == ("running", "w1", True)
    assert "attempts    0 so far, and the one that runs" in look(server.url, "show", next(iter(jobs.payloads)))
    (shown,) = look_json(server.url, "show", "jid9")
    assert (shown["in"], shown["process"]) == ("running", "rb:7:x")


def test_job_is_found_wherever_it_is(redis_url: str, shared_server: Server):
    fill_queue(shared_server, 5000)
    try:
        raise ValueError("boom")
    except ValueError as error:
        backtrace = encode_backtrace(error, None)
    shared_server.command("ZADD", "dead", 1.6e9, payload(7001, error_class="ValueError", error_backtrace=backtrace))
    shared_server.command("ZADD", "retry", 2e9, payload(70010))  # another jid that holds this one
    shared_server.command("HSET", "tw:crashes", "jid7001", 2)
    (dead,) = look_json(redis_url, "show", "jid7001")
    assert (dead["in"], dead["crashes"], json.loads(dead["payload"])["jid"]) == ("dead", 2, "jid7001")
    assert "test_look.py" in dead["backtrace"][0]
    assert "test_look.py" in "\n".join(look(redis_url, "show", "jid7001"))
    assert [row["in"] for row in look_json(redis_url, "show", "jid4321")] == ["queue"]


@pytest.fixture
def somewhere_else(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A time zone like no other."""
    monkeypatch.setenv("TZ", "THERE-05:45")  # as POSIX spells it: no database is needed
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_one_job_tells_its_attempts_so_far_and_times_that_mean_the_same_everywhere(
    redis_url: str, shared_server: Server, somewhere_else: None
):
    failed = {"retry_count": 2, "failed_at": 1.5e9}
    shared_server.command("ZADD", "retry", 2e9, payload(71, **failed))
    shared_server.command("LPUSH", "queue:q", payload(72, **failed), payload(73))
    shared_server.command("SADD", "queues", "q")
    lines = look(redis_url, "show", "jid71")
    assert "attempts    3 so far" in lines
    assert [line.partition(" (")[0] for line in lines if line.startswith(("due", "failed"))] == [
        "due         2033-05-18 09:18:20+05:45",
        "failed      2017-07-14 08:25:00+05:45",
    ]
    assert "attempts    3 so far" in look(redis_url, "show", "jid72")
    assert "attempts    0 so far" in look(redis_url, "show", "jid73")
    (row,) = look_json(redis_url, "show", "jid72")
    assert (row["attempts_made"], row["attempt"], row["times"]["failed"]) == (3, 4, 1.5e9)


def test_numbers_are_told_once_or_again_and_again(redis_url: str, shared_server: Server):
    fill_queue(shared_server, 3)
    shared_server.command("SET", "stat:processed", 12)
    (row,) = look_json(redis_url, "stats")
    assert (row["enqueued"], row["processed"], row["processed_rate"]) == (3, 12, None)
    command = [
        sys.executable,
        "-m",
        "trioworkers",
        "stats",
        "--watch",
        "--every",
        "0.1",
        "--json",
        "--redis",
        redis_url,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as watching:
        assert watching.stdout is not None
        lines = [json.loads(watching.stdout.readline())]
        shared_server.command("SET", "stat:processed", 5000)
        while not (lines[-1]["processed_rate"] or 0) > 0:
            lines.append(json.loads(watching.stdout.readline()))
        watching.send_signal(2)
        assert watching.wait(60) == 130
        assert watching.stderr is not None
        assert watching.stderr.read() == b""


def test_who_watches_sees_redis_go_and_come_back(server: Server):
    command = [
        sys.executable,
        "-m",
        "trioworkers",
        "stats",
        "--watch",
        "--every",
        "0.1",
        "--json",
        "--redis",
        server.url,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        assert watching.stderr is not None
        watching.stdout.readline()
        server.kill()
        assert watching.stderr.readline().startswith("no answer from Redis, it is waited for: ")
        server.start()
        server.command("SET", "stat:processed", 7)
        wait_for(lambda: '"processed":7' in watching.stdout.readline(), "it goes on")  # type: ignore[union-attr]
        watching.send_signal(2)
        assert (watching.wait(60), watching.stderr.read()) == (130, "")


def test_odd_payloads_are_rows_like_all_others(redis_url: str, shared_server: Server):
    odd = [
        b'{"class":"A","args":["\xff",\n1.10]}',
        b'{"class":"A","args":["\n"]}',
        b"\xff",
        b"[]",
        b'{"class":{},"args":7,"jid":[]}',
        b"",
    ]
    shared_server.command("LPUSH", "queue:q", *odd)
    shared_server.command("ZADD", "schedule", "inf", odd[0], "-inf", odd[2])
    rows = look_json(redis_url, "jobs", "q")
    assert [row.get("args") for row in rows] == [["\ufffd", 1.1], None, None, None, 7, None]
    assert len(look(redis_url, "jobs", "q")) == len(odd)
    assert len(look(redis_url, "scheduled")) == len(look_json(redis_url, "scheduled")) == 2


def test_arguments_that_are_not_quite_json_are_shown_as_they_are_spelled(redis_url: str, shared_server: Server):
    for number, args in enumerate(("[NaN]", '["\\ud800"]', "[1e400]")):
        shared_server.command("LPUSH", "queue:q", f'{{"class":"A","args":{args},"jid":"jid{number}","queue":"q"}}')
    for line, args in zip(look(redis_url, "jobs", "q"), ("[NaN]", '["\\ud800"]', "[1e400]"), strict=True):
        assert args in line
        assert "no JSON object" not in line
    first, _, last = look_json(redis_url, "jobs", "q")
    assert (first["args_text"], "args" in first) == ("[NaN]", False)  # it can't stand in JSON
    assert "args_text" not in last


def test_rates_are_drawn_against_their_highest():
    meter = totals._Meter()
    meter.history.extend([0.0, 50.0, 100.0])
    assert meter.sparkline == "▁▅█"


def test_terminal_gets_a_table_and_none_of_the_payloads_control_characters(redis_url: str, shared_server: Server):
    shared_server.command(
        "ZADD",
        "dead",
        1.6e9,
        payload(1, error_class="E", error_message="\x1b[2Jboom\x9b\u202e", **{"class": "A\x1b[31m"}),
    )
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "trioworkers", "dead", "--redis", redis_url]
    environment = {**os.environ, "COLUMNS": "100", "TERM": "dumb"}
    subprocess.run(command, stdout=theirs, stderr=theirs, env=environment, timeout=120, check=True)
    text = os.read(ours, 100_000).decode()
    for end in (ours, theirs):
        os.close(end)
    assert "jid1" in text
    assert "error" in text.splitlines()[0]
    assert not set(text) & set("\x1b\x9b\u202e")


def test_narrow_terminal_cuts_the_error_and_never_the_jid(redis_url: str, shared_server: Server):
    jid = "0123456789abcdef01234567"
    extra = {"jid": jid, "class": "Mailer", "retry_count": 3}
    text = payload(1, error_class="E", error_message="boom " * 50, **extra)
    shared_server.command("ZADD", "dead", 1.6e9, text)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "trioworkers", "dead", "--redis", redis_url]
    environment = {**os.environ, "COLUMNS": "80", "TERM": "dumb"}
    subprocess.run(command, stdout=theirs, stderr=theirs, env=environment, timeout=120, check=True)
    head, row = os.read(ours, 100_000).decode().splitlines()
    for end in (ours, theirs):
        os.close(end)
    assert head.split() == ["age", "jid", "class", "queue", "attempts", "error"]
    assert jid in row
    assert "Mailer" in row
    assert "E: boom" in row
    assert row.rstrip().endswith("…")
    assert len(row) <= 80


def test_reader_that_goes_away_ends_the_command_quietly(redis_url: str, shared_server: Server):
    fill_queue(shared_server, 20_000)
    command = f"{sys.executable} -m trioworkers jobs q --limit 0 --redis {redis_url} | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=120, check=False)
    assert (len(done.stdout.splitlines()), done.stderr) == (1, "")


@pytest.mark.parametrize("words", [("stats",), ("export", "dead"), ("--help",)])
def test_output_that_cannot_be_written_is_one_line(server: Server, words: tuple[str, ...]):
    server.command("ZADD", "dead", 1, '{"class":"A","args":[],"jid":"abc","queue":"q"}')
    environment = {**os.environ, "REDIS_URL": server.url}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "trioworkers", *words],
            stdout=full,
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
            timeout=60,
            check=False,
        )
    said = [line for line in done.stderr.splitlines() if "of the dead set written" not in line]
    assert (done.returncode, len(said)) == (1, 1), done.stderr
    assert said[0].startswith("trioworkers: the output can't be written: No space left on device")


@pytest.mark.parametrize(
    "words",
    [
        ("dead",),
        ("show", "x"),
        ("ps", "--tree"),
        ("stats", "--watch"),
        ("retry", "x"),
        ("pause", "q"),
        ("export", "dead"),
    ],
)
def test_no_redis_is_said_by_every_command(words: tuple[str, ...]):
    done = CliRunner().invoke(app, [*words, "--redis", f"redis://127.0.0.1:{free_port()}/0"])
    assert isinstance(done.exception, Unavailable)
    assert "no answer from Redis at redis://127.0.0.1" in str(done.exception)


def test_no_redis_is_one_line_and_status_1():
    url = f"redis://user:secret@127.0.0.1:{free_port()}/0"
    command = [sys.executable, "-m", "trioworkers", "queues", "--redis", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert "no answer from Redis at redis://127.0.0.1" in done.stderr
    assert "secret" not in done.stderr


def test_wrong_password_is_one_line_and_status_1(server: Server):
    server.command("CONFIG", "SET", "requirepass", "right")
    command = [sys.executable, "-m", "trioworkers", "queues", "--redis", f"redis://:wrong@127.0.0.1:{server.port}/0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert "password" in done.stderr.lower()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.31, "0.3s"),
        (42, "42s"),
        (303, "5m03s"),
        (11_220, "3h07m"),
        (1e6, "11d"),
        (-75, "-1m15s"),
        (1.7e12, "19675925d"),  # milliseconds that were meant as seconds
        *((odd, "-") for odd in (None, 1e308, -1e308, float("inf"), float("-inf"), float("nan"))),
    ],
)
def test_lengths_of_time_are_short(seconds: float | None, text: str):
    assert tables.duration(seconds) == text
