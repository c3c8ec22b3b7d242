"""A jid may be cut short, as long as it can only mean one job; and never is more than one job acted on by it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from acting import act, members, payload, refused
from harness import Jobs
from servers import Server, Worker, wait_for

FIRST, SECOND, THIRD = "c0ffee10aaaaaaaaaaaaaaaa", "c0ffee10bbbbbbbbbbbbbbbb", "c0ffee2000000000000000cc"


@pytest.fixture
def payloads(redis_url: str, shared_server: Server) -> list[str]:
    """Three jobs whose jids begin alike, in two places; a fourth mentions one of them."""
    texts = [payload(n, jid=jid) for n, jid in enumerate((FIRST, SECOND, THIRD))]
    texts.append(payload(3, jid="another", args=[FIRST, "c0ffee30"]))
    shared_server.command("ZADD", "retry", 2e9, texts[0], 2e9, texts[3])
    shared_server.command("ZADD", "dead", 1.6e9, texts[1])
    shared_server.command("SADD", "queues", "q")
    shared_server.command("LPUSH", "queue:q", texts[2])
    return texts


def test_beginning_that_no_other_jid_has_is_enough(redis_url: str, shared_server: Server, payloads: list[str]):
    assert act(redis_url, "show", "c0ffee2").stdout.startswith(f"jid         {THIRD}\n")
    assert act(redis_url, "retry", "c0ffee10a").stdout == f"{FIRST}: sent to be retried\n"
    assert act(redis_url, "delete", "c0ffee10b", "c0ffee10bb", SECOND).stdout == f"{SECOND}: deleted\n"
    assert (members(shared_server, "retry"), members(shared_server, "dead")) == ([payloads[3]], [])


@pytest.mark.parametrize("words", [("show",), ("retry",), ("delete",), ("bury",), ("requeue",), ("cancel",)])
def test_ambiguous_beginning_lists_who_it_may_be_and_does_nothing(
    redis_url: str, shared_server: Server, payloads: list[str], words: tuple[str, ...]
):
    text = refused(redis_url, *words, "c0ffee10")
    assert "2 jobs are meant by c0ffee10" in text
    assert f"  {FIRST}  A  in the retry set\n  {SECOND}  A  in the dead set" in text
    assert THIRD not in text
    assert len(members(shared_server, "retry")) == 2
    assert members(shared_server, "dead") == payloads[1:2]


def test_ambiguous_one_among_others_stops_them_all(redis_url: str, shared_server: Server, payloads: list[str]):
    assert "3 jobs are meant by" in refused(redis_url, "delete", THIRD, "c0ffee")
    assert members(shared_server, "queue:q") == [payloads[2]]


def test_whole_jid_wins_over_those_that_begin_with_it(redis_url: str, shared_server: Server, payloads: list[str]):
    shared_server.command("ZADD", "dead", 1, payload(9, jid="c0ffee10"))
    assert act(redis_url, "delete", "c0ffee10").stdout == "c0ffee10: deleted\n"
    assert members(shared_server, "dead") == payloads[1:2]


def test_jid_that_is_not_random_is_only_meant_as_a_whole(redis_url: str, shared_server: Server):
    shared_server.command("ZADD", "dead", 1, text := payload(1, jid="order-12"))
    for words in (("delete", "order-1"), ("retry", "order-"), ("show", "order-1")):
        assert "no job order-" in refused(redis_url, *words)
    assert members(shared_server, "dead") == [text]
    assert act(redis_url, "delete", "order-12").stdout == "order-12: deleted\n"


def test_too_short_a_beginning_is_none(redis_url: str, payloads: list[str]):
    assert "from 6 characters on" in refused(redis_url, "show", "c0ffe")
    assert "no job c0ffee3" in refused(redis_url, "show", "c0ffee3")


def test_long_list_of_candidates_is_cut(redis_url: str, shared_server: Server):
    shared_server.command("LPUSH", "queue:q", *[payload(n, jid=f"decade{n:018}") for n in range(40)])
    shared_server.command("SADD", "queues", "q")
    text = refused(redis_url, "show", "decade")
    assert (text.count("in queue q"), "… and 30 more" in text) == (10, True)


def test_running_job_is_cancelled_by_how_its_jid_begins(work: Callable[..., Worker], server: Server, jobs: Jobs):
    work("w1").wait_started()
    jobs.push(1, "Sleep", 60)
    wait_for(lambda: len(jobs.counted("start")) == 1, "it runs")
    (jid,) = jobs.payloads
    assert act(server.url, "cancel", jid[:-1]).stdout.startswith(f"{jid}: cancelled on w1")


def test_job_is_known_by_the_id_that_rails_gave_it(redis_url: str, shared_server: Server):
    uuid = "3f3468fb-9440-4ee0-aa17-032be44adc9a"
    inner = {"job_class": "WelcomeJob", "job_id": uuid, "arguments": [7, "<>"]}
    active = {"class": "Wrapper", "wrapped": "WelcomeJob", "args": [inner]}
    shared_server.command("SADD", "queues", "q")
    shared_server.command("LPUSH", "queue:q", payload(1, **active), payload(2, args=[uuid]))
    told = act(redis_url, "show", uuid).stdout
    assert told.startswith("jid         jid1\n")
    assert f"job id      {uuid}, as Rails calls it\n" in told
    assert act(redis_url, "jobs", "q").stdout.splitlines()[0].endswith('\tWelcomeJob\t[7, "<>"]')
    assert act(redis_url, "bury", uuid[:8]).stdout == "jid1: buried\n"
    again = {**active, "args": [{**inner, "executions": 1}]}
    shared_server.command("LPUSH", "queue:q", payload(3, **again))
    assert f"2 jobs are meant by {uuid}" in refused(redis_url, "delete", uuid)  # Rails' own retries keep it


NO_TEXT = "\udcff"
"""The byte FF, as Python gives what a shell said."""


@pytest.mark.parametrize("command", ["show", "retry", "delete", "bury", "requeue", "cancel", "result", "watch"])
def test_jid_that_is_no_text_is_nobody_s(redis_url: str, payloads: list[str], command: str):
    assert re.search("no (job|result of job) ", refused(redis_url, command, NO_TEXT))


def test_queue_whose_name_is_no_text_is_shown_and_emptied(redis_url: str, shared_server: Server):
    for _ in range(2):
        shared_server.command("SADD", "queues", b"\xff")
        shared_server.command("LPUSH", b"queue:\xff", payload(1))
    assert "jid1" in act(redis_url, "jobs", NO_TEXT).stdout
    act(redis_url, "purge", NO_TEXT, "--yes")
    assert shared_server.command("EXISTS", b"queue:\xff") == 0


@pytest.mark.parametrize("key", ["dead", "queue:q"])
@pytest.mark.parametrize(
    "text",
    [
        '{"class":"A","args":[1]}',
        '{"class":"A","args":[1],"jid":null}',
        '{"class":"A","args":[1],"jid":""}',
        '{"class":"A","args":[1],"jid":["a"]}',
        f'{{"class":"A","args":[1],"jid":"{"j" * 300}"}}',
        f'{{"class":"A","args":[1],"jid": "{FIRST}',
        '{"class":"A","args":[1],"jid":"\\u0064ecade10"}',
        "[1]",
        "",
    ],
)
def test_jid_that_stands_in_no_payload_means_the_job_that_is_listed_so(
    redis_url: str, shared_server: Server, payloads: list[str], key: str, text: str
):
    shared_server.command(*(("ZADD", key, 1) if key == "dead" else ("LPUSH", key)), text)
    listed = act(redis_url, *(("dead",) if key == "dead" else ("jobs", "q")), "--json").stdout.splitlines()
    [made] = {json.loads(line)["jid"] for line in listed} - {FIRST, SECOND, THIRD, "another"}
    for jid in (made, made[:8]):
        assert act(redis_url, "show", jid).stdout.startswith(f"jid         {made}\n")
    assert act(redis_url, "delete", made).stdout == f"{made}: deleted\n"
    assert members(shared_server, key) == [payloads[1 if key == "dead" else 2]]
