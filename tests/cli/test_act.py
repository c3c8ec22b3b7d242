"""The commands that act, against a real Redis: Sidekiq's semantics, and nothing lost or doubled however they end."""

from __future__ import annotations

import json
import os
import pty
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable

import pytest
from acting import act, fill, jobs_in, members, payload, refused
from harness import Jobs
from servers import Server, Worker, wait_for

RunWorker = Callable[..., Worker]


# ── Sidekiq's semantics ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("key", ["retry", "dead"])
def test_retry_pushes_now_and_gives_the_attempt_back(redis_url: str, shared_server: Server, key: str):
    fill(shared_server, key, 1, retry_count=3, at=1.9e9, foreign={"n": 12345678901234567890})
    assert act(redis_url, "retry", "jid0").stdout == "jid0: sent to be retried\n"
    (text,) = members(shared_server, "queue:q")
    job = json.loads(text)
    assert (job["retry_count"], "at" in job, job["foreign"]) == (2, False, {"n": 12345678901234567890})
    assert job["enqueued_at"] > 1.5e9
    assert '"args":[0, 1.1]' in text.replace('"args": ', '"args":')
    assert shared_server.command("EXISTS", key) == 0
    assert shared_server.command("SISMEMBER", "queues", "q") == 1


def test_requeue_leaves_used_up_retries_used_up(redis_url: str, shared_server: Server):
    fill(shared_server, "dead", 3, retry_count=25)
    act(redis_url, "requeue", "--all", "--yes")
    assert [job["retry_count"] for job in jobs_in(shared_server, "queue:q")] == [25, 25, 25]
    assert [job["jid"] for job in jobs_in(shared_server, "queue:q")] == [
        "jid0",
        "jid1",
        "jid2",
    ]  # who died first is first


def test_run_now_does_not_wait(redis_url: str, shared_server: Server):
    fill(shared_server, "schedule", 3)
    act(redis_url, "run-now", "jid1")
    assert [job["jid"] for job in jobs_in(shared_server, "queue:q")] == ["jid1"]
    act(redis_url, "run-now", "--all", "--yes")
    assert [job["jid"] for job in jobs_in(shared_server, "queue:q")] == ["jid1", "jid0", "jid2"]


def test_bury_keeps_the_bytes(redis_url: str, shared_server: Server):
    payloads = fill(shared_server, "queue:q", 3)
    shared_server.command("SADD", "queues", "q")
    act(redis_url, "bury", "jid1")
    act(redis_url, "bury", "--where", "jid=jid2", "--in", "queue:q", "--yes")
    assert members(shared_server, "dead") == payloads[1:]
    assert members(shared_server, "queue:q") == payloads[:1]


def test_requeue_to_another_queue_changes_the_jobs_own_word_for_it(redis_url: str, shared_server: Server):
    fill(shared_server, "queue:q", 300)
    act(redis_url, "requeue", "--all", "--in", "queue:q", "--to", "other", "--yes")
    moved = jobs_in(shared_server, "queue:other")
    assert [job["jid"] for job in moved] == [f"jid{n}" for n in range(300)]
    assert {job["queue"] for job in moved} == {"other"}


def test_delete_takes_what_matches_and_says_how_many(redis_url: str, shared_server: Server):
    payloads = fill(shared_server, "dead", 450)
    done = act(redis_url, "delete", "--in", "dead", "--where", "args~^.([0-9]*7),", "--dry-run")
    assert done.stdout == "45 jobs of 450 in the dead set would be deleted\n"
    assert len(members(shared_server, "dead")) == 450
    assert (
        act(redis_url, "delete", "--in", "dead", "--where", "args~^.([0-9]*7),", "-y").stdout
        == "45 jobs of the dead set deleted\n"
    )
    assert members(shared_server, "dead") == [text for n, text in enumerate(payloads) if n % 10 != 7]


def test_namespace_goes_before_all_keys(redis_url: str, shared_server: Server):
    fill(shared_server, "ns:dead", 3)
    fill(shared_server, "dead", 1)
    ours = ("--namespace", "ns")
    act(redis_url, "retry", "jid1", *ours)
    act(redis_url, "requeue", "--all", "--to", "other", "--yes", *ours)
    act(redis_url, "pause", "q", "--class", "A", *ours)
    keys = shared_server.command("KEYS", "*")
    assert isinstance(keys, list)
    wanted = ["ns:queue:q", "ns:queue:other", "ns:queues", "ns:paused", "ns:tw:paused:classes", "dead"]
    assert sorted(keys) == sorted(wanted)
    assert act(redis_url, "show", "jid1", *ours).stdout.startswith("jid         jid1\nwhere       in queue q\n")


def test_jobs_of_others_go_to_their_queues_whatever_these_are_called(redis_url: str, shared_server: Server):
    odd = '{"class":"A","args":{"a":1},"jid":"odd","queue":"low prio","retry":"5","retry_count":"2","n":1.10}'
    for number, (place, words) in enumerate((("schedule", "run-now"), ("retry", "retry"), ("dead", "requeue")), 1):
        shared_server.command("ZADD", place, 1, odd)
        act(redis_url, words, "odd")
        moved = str(shared_server.command("LINDEX", "queue:low prio", 0))
        assert moved.startswith(odd[:-1])
        assert shared_server.command("LLEN", "queue:low prio") == number
        shared_server.command("LPOP", "queue:low prio")
        shared_server.command("LPUSH", "queue:low prio", f"{number}")
    assert shared_server.command("SMEMBERS", "queues") == ["low prio"]
    fill(shared_server, "dead", 1)
    act(redis_url, "requeue", "--all", "--to", "über", "--yes")
    act(redis_url, "enqueue", "low prio", "A")
    assert shared_server.command("LLEN", "queue:über") == 1
    assert shared_server.command("LLEN", "queue:low prio") == 4
    assert "A" in act(redis_url, "jobs", "low prio").stdout


def test_purge_forgets_the_queue(redis_url: str, shared_server: Server):
    fill(shared_server, "queue:q", 5)
    shared_server.command("SADD", "queues", "q")
    assert act(redis_url, "purge", "q", "--yes").stdout == "5 jobs of queue q deleted\n"
    assert shared_server.command("EXISTS", "queue:q", "queues") == 0
    assert "no queue 'q'" in refused(redis_url, "purge", "q", "--yes")


def test_what_is_no_job_is_left_and_told(redis_url: str, shared_server: Server):
    shared_server.command("ZADD", "dead", 1, "not json", 2, payload(1), 3, '{"class":"A","queue":""}')
    done = act(redis_url, "retry", "--all", "--in", "dead", "--yes")
    assert (done.stdout, "2 payloads left: can't be enqueued" in done.stderr) == (
        "1 job of the dead set sent to be retried\n",
        True,
    )
    assert members(shared_server, "dead") == ["not json", '{"class":"A","queue":""}']


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("retry",), "which jobs?"),
        (("retry", "x", "--all"), "which jobs?"),
        (("delete", "--all"), "say where, with --in"),
        (("retry", "--all", "--in", "scheduled"), "--in takes retry, dead"),
        (("bury", "--all", "--in", "queue"), "queue:NAME"),
        (("requeue", "--all", "--in", "queue:q"), "--in takes dead, retry, scheduled"),
        (("requeue", "--all", "--to", "two\nlines"), "a queue's name"),
        (("delete", "--in", "dead", "--where", "x"), "not FIELD OP VALUE"),
        (("retry", "nowhere"), "no job nowhere"),
        (("retry", "jid0"), "is in queue q"),
        (("delete", "--all", "--in", "queue:q"), "Nobody is there to say yes"),
        (("cancel", "nowhere"), "no job nowhere"),
        (("cancel", "jid0"), "it is in queue q"),
        (("quiet", "nobody"), "no process 'nobody'"),
        (("stop",), "which?"),
        (("pause",), "what?"),
        (("export", "everything"), "none of retry"),
        (("import", "/nowhere"), "No such file"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_happens(
    redis_url: str, shared_server: Server, words: tuple[str, ...], reason: str
):
    shared_server.command("SADD", "queues", "q")
    payloads = fill(shared_server, "queue:q", 2)
    assert reason in refused(redis_url, *words)
    assert members(shared_server, "queue:q") == payloads


def test_somebody_at_a_terminal_is_asked(redis_url: str, shared_server: Server):
    fill(shared_server, "dead", 3)
    for answer, left in ((b"n\n", 3), (b"y\n", 0)):
        ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "trioworkers", "delete", "--all", "--in", "dead", "--redis", redis_url]
        with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs) as process:
            os.write(ours, answer)
            text = ""
            while "Go on?" not in text:  # a read may bring the echo of the answer alone
                text += os.read(ours, 10_000).decode()
            assert process.wait(60) == (1 if left else 0)
        for end in (ours, theirs):
            os.close(end)
        assert "3 jobs of 3 in the dead set will be deleted. Go on?" in text
        assert shared_server.command("ZCARD", "dead") == left


def test_bury_says_what_a_full_dead_set_will_lose(redis_url: str, shared_server: Server):
    fill(shared_server, "dead", 9990, since=time.time() - 100_000)  # older than 180 days they would go anyway
    shared_server.command("LPUSH", "queue:q", *[payload(n) for n in range(20_000, 20_015)])
    assert "so its 6 oldest will be gone" in refused(redis_url, "bury", "--all", "--in", "queue:q")
    assert act(redis_url, "bury", "--all", "--in", "queue:q", "--yes").stdout == "15 jobs of queue q buried\n"
    assert members(shared_server, "dead")[0] == payload(6)


# ── however it ends ────────────────────────────────────────────────────────────────────────────────────────────────────

MOVES = {
    "retry": ("dead", "queue:q", ["retry", "--all", "--in", "dead"]),
    "bury": ("queue:q", "dead", ["bury", "--in", "queue:q", "--where", "args!~x"]),
    "requeue": ("queue:q", "queue:other", ["requeue", "--in", "queue:q", "--all", "--to", "other"]),
}


@pytest.mark.parametrize(
    ("name", "number"),
    [("retry", signal.SIGKILL), ("bury", signal.SIGKILL), ("requeue", signal.SIGKILL), ("retry", signal.SIGINT)],
)
def test_killed_half_way_nothing_is_lost_or_doubled(
    redis_url: str, shared_server: Server, name: str, number: signal.Signals
):
    source, target, words = MOVES[name]
    count = 9000
    fill(shared_server, source, count)
    command = [sys.executable, "-m", "trioworkers", *words, "--yes", "--redis", redis_url]
    chance, statuses = random.Random(name), set()
    length = "LLEN" if target.startswith("queue:") else "ZCARD"
    # Where this process is kept from running meanwhile, a command may be through before it is interrupted: then it begins anew.
    for attempt in range(10):
        if attempt >= 2 and statuses & {-number, 130}:
            break
        if not shared_server.command("EXISTS", source):
            shared_server.command("DEL", target)
            fill(shared_server, source, count)
        before = int(str(shared_server.command(length, target)))
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            begun = before + 1 + chance.randrange(1500)
            while process.poll() is None and int(str(shared_server.command(length, target))) < begun:
                time.sleep(0.001)
            process.send_signal(number)
            out, err = process.communicate(timeout=120)
        statuses.add(process.returncode)
        assert err == ""
        if number == signal.SIGINT:
            assert "jobs of" in out
        jids = Counter(job["jid"] for key in (source, target) for job in jobs_in(shared_server, key))
        assert len(jids) == jids.total() == count
    assert statuses & {-number, 130}, "none was interrupted half-way"
    act(redis_url, *words, "--yes")
    assert shared_server.command("EXISTS", source) == 0
    assert len({job["jid"] for job in jobs_in(shared_server, target)}) == count


def test_job_that_fails_again_at_once_is_not_retried_for_ever(work: RunWorker, server: Server, jobs: Jobs):
    work("w1", CONCURRENCY="50").wait_started()
    jobs.push_elsewhere(600, "retry", "FailAfter", 0, score=time.time() + 1000)
    assert act(server.url, "retry", "--all", "--yes").stdout == "600 jobs of the retry set sent to be retried\n"
    wait_for(lambda: server.command("ZCARD", "retry") == 600, "all have failed again")
    assert set(jobs.counted("start").values()) == {1}
