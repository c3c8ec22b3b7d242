"""Who enqueues × who runs, with real programs. Every pair is a cell: it runs, or it says why there is nothing to run.

To add a row: a function `(shop, queue, job_class, args) -> key` in ENQUEUERS, with the format that it writes. To add a column: a `Runner`
with the formats that it reads and how to hear what ran. The table of `docs/interop.md` is checked against this one.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import attrs
import pytest
import trio
from servers import ROOT
from shop import Shop, ruby_has

from trioworkers import Client, Job

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(
        not ruby_has("sidekiq", "active_job"),
        reason="Ruby's ActiveJob is missing (Debian: ruby-activejob, ruby-sidekiq)",
    ),
]

Format = Literal["Sidekiq", "ActiveJob"]
ARGS = [7, "é☃", 2.5, None, True, [1, [2]]]


# ── who enqueues ───────────────────────────────────────────────────────────────────────────────────────────────────────


def sidekiq_client(shop: Shop, queue: str, job_class: str, args: Sequence[Any]) -> str:
    item = json.dumps({"queue": queue, "class": job_class, "args": args})
    return str(shop.ruby(f"Sidekiq::Client.push(JSON.parse({item!r}))"))


def perform_later(shop: Shop, queue: str, job_class: str, args: Sequence[Any]) -> str:
    code = f"{job_class}.set(queue: {queue!r}).perform_later(*JSON.parse({json.dumps(args)!r})).provider_job_id"
    return str(shop.ruby(code))


def our_client(shop: Shop, queue: str, job_class: str, args: Sequence[Any]) -> str:
    return _send(shop, Job(queue, job_class, args))


def our_active_job(shop: Shop, queue: str, job_class: str, args: Sequence[Any]) -> str:
    return _send(shop, Job(queue, job_class, args, active_job=True))


def go_workers(shop: Shop, queue: str, job_class: str, args: Sequence[Any]) -> str:
    """Byte for byte what go-workers sends: its own order of fields, no `created_at`, `at` always, pushed onto the other end."""
    jid, now_s = secrets.token_hex(12), time.time()
    fields = {
        "queue": queue,
        "class": job_class,
        "args": args,
        "jid": jid,
        "enqueued_at": now_s,
        "retry": True,
        "at": now_s,
    }
    payload = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
    shop.server.command("SADD", "queues", queue)
    shop.server.command("RPUSH", f"queue:{queue}", payload)
    return jid


def _send(shop: Shop, job: Job) -> str:
    async def send() -> None:
        async with Client(shop.server.url) as client:
            await client.enqueue(job)

    trio.run(send)
    return job.jid


@attrs.frozen
class Enqueuer:
    name: str
    writes: Format
    enqueue: Callable[[Shop, str, str, Sequence[Any]], str]


ENQUEUERS = [
    Enqueuer("Sidekiq::Client", "Sidekiq", sidekiq_client),
    Enqueuer("ActiveJob perform_later", "ActiveJob", perform_later),
    Enqueuer("trioworkers Client", "Sidekiq", our_client),
    Enqueuer("trioworkers Client, active_job=True", "ActiveJob", our_active_job),
    Enqueuer("go-workers", "Sidekiq", go_workers),
]


# ── who runs ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def ran_here(shop: Shop, key: str) -> tuple[str, Any]:
    ran = shop.ran_in_python(key)
    return ran["class"], ran["args"]


def ran_in_sidekiq(shop: Shop, key: str) -> tuple[str, Any]:
    ran = shop.ran_in_ruby(key)
    return ran["class"], repr(ran["args"])


def ran_in_active_job(shop: Shop, key: str) -> tuple[str, Any]:
    ran = shop.ran_in_ruby(key)
    return ran["class"], repr([_plain(item) for item in ran["args"]])


def _plain(described: Any) -> Any:
    """The value of what `described` in `rails.rb` says of a JSON value."""
    if isinstance(described[0], str):
        return json.loads(described[1].replace("nil", "null"))
    return [_plain(item) for item in described]


@attrs.frozen
class Runner:
    """`queue` and `job_class`: what it runs."""

    name: str
    reads: frozenset[Format]
    queue: str
    job_class: str
    ran: Callable[[Shop, str], tuple[str, Any]]


RUNNERS = [
    Runner("trioworkers", frozenset({"Sidekiq", "ActiveJob"}), "python", "AnythingJob", ran_here),
    Runner("Ruby Sidekiq", frozenset({"Sidekiq"}), "rails", "PlainJob", ran_in_sidekiq),
    Runner("ActiveJob in Ruby Sidekiq", frozenset({"ActiveJob"}), "rails", "EchoJob", ran_in_active_job),
]


# ── the cells ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("enqueuer", "runner"),
    [
        pytest.param(enqueuer, runner, id=f"{enqueuer.name} → {runner.name}")
        for enqueuer in ENQUEUERS
        for runner in RUNNERS
        if enqueuer.writes in runner.reads
    ],
)
def test_job_of_one_program_runs_in_the_other(shop: Shop, enqueuer: Enqueuer, runner: Runner):
    key = enqueuer.enqueue(shop, runner.queue, runner.job_class, ARGS)
    assert runner.ran(shop, key) == (runner.job_class, repr(ARGS))


def test_the_table_in_the_docs_says_what_ran():
    page = (ROOT / "docs" / "interop.md").read_text()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("|")]
    head = next(row for row in rows if row[0] == "who enqueues")
    assert head[1:] == [runner.name for runner in RUNNERS]
    table = {row[0].replace("`", ""): row[1:] for row in rows[rows.index(head) + 2 :][: len(ENQUEUERS)]}
    assert table == {
        enqueuer.name: ["yes" if enqueuer.writes in runner.reads else "–" for runner in RUNNERS]
        for enqueuer in ENQUEUERS
    }
