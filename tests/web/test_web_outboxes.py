"""What waits in one shard for another is seen: how much, since when, and why."""

from __future__ import annotations

import html
import re
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from servers import Server, free_port
from visiting import HERE, harmless_text, payload, visiting

from trioworkers import App, Shard
from trioworkers.web import asgi
from trioworkers.wire.packing import pack


def entry(number: int, age_s: float) -> bytes:
    """As a job's end writes it."""
    job = payload(number, created_at=time.time() - age_s, enqueued_at=time.time() - age_s).encode()
    return f"{number:024x}".encode() + pack([[["default", "queue:default", [job], "LPUSH", "queues"]], []])


def words(answer: httpx.Response) -> str:
    harmless_text(answer.text.replace("/shards/~a", "").replace("/shards/~b", ""))
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", answer.text)).split())


@pytest.fixture
def waits(shared_server: Server, redis_url: str) -> Callable[..., None]:
    """Have entries wait in shard a."""

    def waits(target: str, *entries: bytes) -> None:
        shared_server.command("SADD", "{a}:tw:outboxes", target)
        shared_server.command("RPUSH", f"{{a}}:tw:outbox:{target}", *entries)

    return waits


def app_over(redis_url: str) -> App:
    gone = Shard(f"redis://127.0.0.1:{free_port()}", namespace="{c}")
    return App(shards={"a": Shard(redis_url, namespace="{a}"), "b": Shard(redis_url, namespace="{b}"), "gone": gone})


async def test_each_outbox_is_shown_with_its_reason(
    redis_url: str, waits: Callable[..., None], command: Callable[..., Any]
):
    waits("b", entry(1, 5), entry(2, 1))
    waits("gone", entry(3, 7200))
    waits("<i>former", b"no entry of ours")
    command("SADD", "{a}:tw:outboxes", "odd")
    command("SET", "{a}:tw:outbox:odd", "x")
    async with visiting(asgi(app_over(redis_url)), headers=HERE) as visitor:
        first = words(await visitor.get("/"))
        own = words(await visitor.get("/shards/~a/processes"))
        problems = words(await visitor.get("/shards/~a/"))
        doctor = words(await visitor.get("/shards/~a/doctor"))
        other = words(await visitor.get("/shards/~b/processes"))
    assert "shard 'a' b 2 5" in first
    assert "no worker of ours runs here that could bring it there" in first
    assert re.search(r"shard 'a' gone 1 (2 h|2h)[^W]* that shard is away: .*no answer", first), first
    assert "<i>former 1 – this App has no such shard" in first
    assert re.search(r"odd 0 – it can't be read: .*wrong kind of value", first)
    assert "Waits for other shards" in own
    assert "no worker of ours runs here" in own
    assert "enqueued into shard gone has waited for 2" in problems
    assert "enqueued into shard <i>former has waited" in problems
    assert "enqueued into shard b" not in problems, "it is on its way"
    assert "something waits for shard 'gone'" in doctor
    assert "Waits for other shards" not in other


async def test_a_list_of_outboxes_that_is_something_else_takes_no_page_away(
    redis_url: str, command: Callable[..., Any]
):
    command("SET", "{a}:tw:outboxes", "x")
    async with visiting(asgi(app_over(redis_url)), headers=HERE) as visitor:
        for path in ("/", "/shards/~a/", "/shards/~a/processes"):
            assert (await visitor.get(path)).status_code == 200
        assert "'a' well" in words(await visitor.get("/"))


async def test_a_forged_list_of_outboxes_is_shown_in_part(redis_url: str, command: Callable[..., Any]):
    command("SADD", "{a}:tw:outboxes", *(f"shard-{number:04d}" for number in range(3000)))
    async with visiting(asgi(app_over(redis_url)), headers=HERE) as visitor:
        answer = await visitor.get("/shards/~a/processes")
    assert len({*re.findall(r"shard-\d{4}", answer.text)}) == 50


def withheld(job: dict[str, Any]) -> dict[str, Any]:
    return {**job, "args": ["withheld"]}


async def test_what_goes_next_can_be_skipped_and_what_comes_after_it_can_not(
    redis_url: str, waits: Callable[..., None], command: Callable[..., Any]
):
    waits("b", entry(1, 700), entry(2, 1), b"no entry of ours, and longer than an id")
    async with visiting(asgi(app_over(redis_url), redact=withheld), headers=HERE) as visitor:
        assert 'href="/shards/~a/outbox?target=b"' in (await visitor.get("/")).text
        assert 'href="/shards/~a/outbox?target=b"' in (await visitor.get("/shards/~a/processes")).text
        page = await visitor.get("/shards/~a/outbox?target=b")
        said = words(page)
        assert f"{1:024x} 1 SyncJob {1:024x}, for queue default, since 11m" in said
        assert f"{2:024x} 1 SyncJob" in said
        assert "no entry of ours" in said
        assert page.text.count('action="/shards/~a/do/skip"') == 1, "of the first only"
        form = {"target": "b", "back": "/outbox?target=b"}
        second = await visitor.post("/shards/~a/do/skip", data={**form, "entry": f"{2:024x}", "sure": "1"})
        assert second.status_code == 404
        first = await visitor.post("/shards/~a/do/skip", data={**form, "entry": f"{1:024x}"})
        assert "1 job will never come to shard b" in words(first)
        assert command("LLEN", "{a}:tw:outbox:b") == 3, "it was only asked"
        done = await visitor.post("/shards/~a/do/skip", data={**form, "entry": f"{1:024x}", "sure": "1"})
        told = words(await visitor.get(done.headers["location"]))
        assert "1 job for shard b given up" in told
        assert "withheld" in told, "as it may be shown"
        assert command("LLEN", "{a}:tw:outbox:b") == 2
        again = await visitor.post("/shards/~a/do/skip", data={**form, "entry": f"{1:024x}", "sure": "1"})
        assert again.status_code == 404
        assert "Nothing waits for it." in words(await visitor.get("/shards/~b/outbox?target=a"))
    async with visiting(asgi(app_over(redis_url), read_only=True), headers=HERE) as visitor:
        assert "/do/skip" not in (await visitor.get("/shards/~a/outbox?target=b")).text
