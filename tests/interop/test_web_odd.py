"""Sidekiq's own pages and buttons on sets that we wrote, where everything in a job is odd that can be odd: each shows it, and does what it says to that one."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from html import unescape
from typing import Any

from office import Office, needs_web
from servers import wait_for

import trioworkers.sync
from trioworkers import Batch, Job

pytestmark = needs_web
NAMES = [
    *(
        "low prio",
        " a",
        "a  b",
        "über",
        "A::B",
        "a\nb",
        "a\tb",
        "\u202ea",
        "a\u200bb",
        "\u00a0",
        "-x",
        "*",
        "<b>&'\"",
        "a/b",
    ),
    *("..", "%2F", "a?b#c", "x" * 300, "\x1b[1m", "\0", "😀", "__proto__", "Sidekiq", "Kernel", "null"),
]
WRAPPER = "ActiveJob::QueueAdapters::SidekiqAdapter::JobWrapper"
INNER = {
    "job_class": "Über Job",
    "job_id": "1-2",
    "arguments": [{"_aj_globalid": "gid://x/Y/1"}, "a\nb"],
    "executions": 0,
}
ODD: list[dict[str, Any]] = [
    *({"class": name, "tags": [name]} for name in NAMES),
    {"class": WRAPPER, "wrapped": "Über Job", "args": [INNER]},
    {"class": WRAPPER, "args": [INNER]},
    {"class": WRAPPER, "wrapped": "Über Job", "args": ["BHNlY3JldA=="], "encrypt": True},
    {"class": "A", "args": ["BHNlY3JldA=="], "encrypt": True},
    {
        "class": "A",
        "args": ["<script>", "\u202e", "\0", 2**70, None, {"é": []}],
        "x": {"y": [None]},
        "tags": ["<b>", "é"],
    },
    {"class": "A", "retry": "5", "retry_queue": "web", "retry_for": "x", "dead": "no", "backtrace": "all"},
    {"class": "A", "retry_count": "2"},
    {"class": "A", "retry_count": 3},
    {"class": "A", "created_at": 1_700_000_000_123, "enqueued_at": 1_700_000_000_123},
    {"class": "A", "tw_done": ["a"], "tw_failed": {"b": "c"}, "tw_snoozed": 1.5},
]


def jid_of(number: int) -> str:
    return f"{number:024x}"


def fill(office: Office, **more: object) -> dict[str, Mapping[str, Any]]:
    """All of them on a queue of ours, and some that our client sends; by jid."""
    jobs = [
        {"queue": "web", "retry": True, "args": [1], "backtrace": True, **odd, "jid": jid_of(number), **more}
        for number, odd in enumerate(ODD)
    ]
    office.server.command("LPUSH", "queue:web", *map(json.dumps, jobs))
    found = {str(job["jid"]): job for job in jobs}
    with trioworkers.sync.Client(office.server.url) as client:
        batch = Batch("\u202eodd")
        member = Job("web", "Member", [1], keep_result=60, runs_here=True, **more)  # type: ignore[arg-type]
        batch.add(member)
        client.enqueue(batch)
    return {**found, str(member.jid): {"class": "Member"}}


def where(office: Office, key: str) -> dict[str, float]:
    """The jids in a set, with their scores."""
    found = office.server.command("ZRANGE", key, 0, -1, "WITHSCORES")
    assert isinstance(found, list)
    return {json.loads(payload)["jid"]: float(score) for payload, score in zip(found[::2], found[1::2], strict=True)}


def links(office: Office, listing: str) -> dict[str, str]:
    """By jid, the path of each entry's own page, over all pages of the listing."""
    found: dict[str, str] = {}
    for page in range(1, 9):
        text = office.browser.look(f"/{listing}?page={page}&count=25")
        found.update({path.split("-", 1)[1]: path for path in re.findall(rf'href="(/{listing}/[0-9.]+-[^"]*)"', text)})
    return found


def run_of(office: Office) -> set[str]:
    return set(office.ran())


def press(office: Office, listing: str, button: str, jids: Sequence[str]) -> None:
    """That button on the page of each of these jobs."""
    paths = links(office, listing)
    for jid in jids:
        office.browser.press(paths[jid], button)


def test_every_page_shows_them_and_each_button_acts_on_its_own(office: Office):
    jobs = fill(office)
    encrypted = {jid for jid, job in jobs.items() if job.get("encrypt")}
    failed = sorted(jobs.keys() - encrypted)
    wait_for(lambda: set(where(office, "retry")) == {*failed}, "all have failed")
    wait_for(lambda: set(where(office, "dead")) == encrypted, "what only Ruby can read is dead")
    assert set(links(office, "retries")) == {*failed}
    for listing in ("retries", "morgue"):
        for jid, path in links(office, listing).items():
            page = unescape(office.browser.look(path))
            assert jid in page
            assert "encrypted by Sidekiq Enterprise" in page or jid not in encrypted
            assert "web_app.py" in page or jid in encrypted or jobs[jid].get("backtrace") is not True

    office.mend()
    retried, killed, deleted = failed[::3], failed[1::3], failed[2::3]
    press(office, "retries", "retry", retried)
    wait_for(lambda: run_of(office) == {*retried}, lambda: f"they run: {office.ran()}")
    for jid in killed:
        (page,) = {n for n in range(1, 3) if jid in office.browser.look(f"/retries?page={n}")}
        office.browser.press(f"/retries?page={page}", "kill", tick=[jid])
    assert set(where(office, "retry")) == {*deleted}
    assert set(where(office, "dead")) == {*killed, *encrypted}
    press(office, "retries", "delete", deleted)
    assert where(office, "retry") == {}

    died_at = where(office, "dead")
    office.browser.press("/morgue", "retry", to="all/retry")
    wait_for(lambda: run_of(office) == {*retried, *killed}, lambda: f"they run: {office.ran()}")
    wait_for(lambda: set(where(office, "dead")) == encrypted, "what only Ruby can read is dead again")
    assert all(at_s > died_at[jid] for jid, at_s in where(office, "dead").items())
    assert sorted(office.ran()) == sorted([*retried, *killed])


def test_scheduled_ones_are_added_to_their_queue_and_run(office: Office):
    jobs = {
        jid_of(number): {"queue": "web", "args": [1], **odd, "jid": jid_of(number)} for number, odd in enumerate(ODD)
    }
    scheduled = [word for number, job in enumerate(jobs.values()) for word in (3e9 + number, json.dumps(job))]
    office.server.command("ZADD", "schedule", *scheduled)
    office.mend()
    added, deleted = sorted(jobs)[::2], sorted(jobs)[1::2]
    press(office, "scheduled", "add_to_queue", added)
    press(office, "scheduled", "delete", deleted)
    encrypted = {jid for jid in added if jobs[jid].get("encrypt")}
    wait_for(lambda: run_of(office) == {*added} - encrypted, lambda: f"they run: {office.ran()}")
    wait_for(lambda: set(where(office, "dead")) == encrypted, "what only Ruby can read is dead")
    assert where(office, "schedule") == {}
    assert len(office.ran()) == len({*added} - encrypted)


def test_a_running_one_is_shown_on_the_page_of_processes(office: Office):
    names = NAMES[:20]  # as many run at once
    for number, name in enumerate(names):
        office.server.command(
            "LPUSH",
            "queue:web",
            json.dumps({"class": f"hold {name}", "args": [name], "jid": jid_of(number), "retry": False}),
        )
    wait_for(lambda: len(office.ruby("works")) == len(names), "all run")
    page = unescape(office.browser.look("/busy"))
    assert all(jid_of(number) in page for number in range(len(names)))
    office.release("all")
    wait_for(lambda: len(office.ran()) == len(names), "all end")
