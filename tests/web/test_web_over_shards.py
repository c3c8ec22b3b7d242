"""Buttons over several shards: each says what was done there and what failed; nothing is done anywhere that nobody was asked about."""

from __future__ import annotations

import html
import logging
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from servers import free_port
from visiting import HERE, failed, payload, visiting

from trioworkers import App, Shard
from trioworkers.web import asgi

ALL = {"act": "retry", "in": "retry", "all": "1", "back": "/retries"}


@pytest.fixture
def fill(command: Callable[..., Any]) -> None:
    for space, numbers in (("{a}", range(3)), ("{b}", range(10, 15))):
        command("SADD", f"{space}:queues", "default")
        command("LPUSH", f"{space}:queue:default", payload(1))
        for number in numbers:
            command("ZADD", f"{space}:retry", 2e9, failed(number, **{"class": "OldJob" if number % 2 else "NewJob"}))


@pytest.fixture
async def visitor(redis_url: str, fill: None) -> AsyncIterator[httpx.AsyncClient]:
    gone = Shard(f"redis://127.0.0.1:{free_port()}", namespace="{c}")
    app = App(shards={"a": Shard(redis_url, namespace="{a}"), "b": Shard(redis_url, namespace="{b}"), "gone": gone})
    async with visiting(asgi(app), headers=HERE) as found:
        yield found


def words(answer: httpx.Response) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", answer.text)).split())


def form_on(page: str, action: str) -> dict[str, list[str]]:
    """What the first form with that address sends, without its buttons."""
    form = re.search(rf'<form[^>]*action="{action}"[^>]*>.*?</form>', page, re.DOTALL)
    assert form, page
    fields: dict[str, list[str]] = {}
    for name, value in re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', form[0]):
        fields.setdefault(name, []).append(html.unescape(value))
    return fields


async def test_all_of_a_kind_are_retried_in_all_shards(visitor: httpx.AsyncClient, command: Callable[..., Any]):
    page = await visitor.get("/retries", params={"q": "class=OldJob"})
    fields = form_on(page.text, "/do/act")
    assert (fields["in"], fields["q"], fields["all"]) == (["retry"], ["class=OldJob"], ["1"])
    asked = await visitor.post("/do/act", data={**fields, "act": "retry"})
    assert "shard 'a' 1 job of 3 in the retry set" in words(asked)
    assert "shard 'b' 2 jobs of 5 in the retry set" in words(asked)
    assert re.search(r"shard 'gone' nothing will be done there: .*no answer", words(asked))
    assert command("ZCARD", "{a}:retry") + command("ZCARD", "{b}:retry") == 8
    sure = form_on(asked.text, "/do/act")
    assert sure["shard"] == ["~a", "~b"]
    done = await visitor.post("/do/act", data=sure)
    assert done.status_code == 303
    assert done.headers["location"].startswith("/retries?q=")
    page = await visitor.get(done.headers["location"])
    assert re.search(
        r"shard 'a' retry all in the retry set .* done 1 job of the retry set sent to be retried", words(page)
    )
    assert re.search(
        r"shard 'b' retry all in the retry set .* done 2 jobs of the retry set sent to be retried", words(page)
    )
    assert (command("ZCARD", "{a}:retry"), command("ZCARD", "{b}:retry")) == (2, 3)
    assert (command("LLEN", "{a}:queue:default"), command("LLEN", "{b}:queue:default")) == (2, 3)


async def test_each_shard_has_an_undo_of_its_own(visitor: httpx.AsyncClient, command: Callable[..., Any]):
    asked = await visitor.post("/do/act", data={**ALL, "act": "delete"})
    done = await visitor.post("/do/act", data=form_on(asked.text, "/do/act"))
    page = await visitor.get(done.headers["location"])
    assert (command("EXISTS", "{a}:retry"), command("EXISTS", "{b}:retry")) == (0, 0)
    undone = await visitor.post("/shards/~b/do/undo", data=form_on(page.text, "/shards/~b/do/undo"))
    assert undone.status_code == 303
    assert (command("EXISTS", "{a}:retry"), command("ZCARD", "{b}:retry")) == (0, 5)


async def test_a_queue_that_is_spread_is_paused_and_what_failed_is_said(
    visitor: httpx.AsyncClient, command: Callable[..., Any], caplog: pytest.LogCaptureFixture
):
    assert 'href="/queue?name=default"' in (await visitor.get("/")).text
    page = await visitor.get("/queue?name=default")
    assert form_on(page.text, "/do/pause")["queue"] == ["default"]
    with caplog.at_level(logging.WARNING, "trioworkers.web"):
        done = await visitor.post("/do/pause", data=form_on(page.text, "/do/pause"))
        page = await visitor.get(done.headers["location"])
    assert (command("SMEMBERS", "{a}:paused"), command("SMEMBERS", "{b}:paused")) == (["default"], ["default"])
    for name in "ab":
        assert f"shard '{name}' pause default done default: paused" in words(page)
    assert re.search(r"shard 'gone' pause default failed .*no answer", words(page)), words(page)
    assert sum("pause default, by" in record.getMessage() for record in caplog.records) == 3
    await visitor.post("/do/resume", data={"queue": "default", "back": "/queue?name=default"})
    assert (command("EXISTS", "{a}:paused"), command("EXISTS", "{b}:paused")) == (0, 0)


async def test_a_shard_that_went_away_after_it_was_confirmed_is_said(visitor: httpx.AsyncClient):
    done = await visitor.post("/do/act", data={**ALL, "sure": "1", "shard": ["~a", "~gone"]})
    page = words(await visitor.get(done.headers["location"]))
    assert "3 jobs of the retry set sent to be retried" in page
    assert re.search(r"shard 'gone' retry all in the retry set failed .*no answer", page), page


@pytest.mark.parametrize(
    ("path", "fields", "status", "text"),
    [
        ("/do/cancel", {"jid": "x"}, 405, "pages of one shard"),
        ("/do/nothing", {}, 405, "pages of one shard"),
        ("/do/act", {"act": "retry", "pick": "x"}, 400, "ticked lie in one shard"),
        ("/do/pause", {"queue": "q", "shard": "~<b>"}, 400, "there is no shard"),
    ],
)
async def test_what_cant_be_done_in_all_is_refused(
    visitor: httpx.AsyncClient, path: str, fields: dict[str, str], status: int, text: str
):
    answer = await visitor.post(path, data=fields)
    assert answer.status_code == status
    assert text in words(answer)
    assert "<b>" not in answer.text


async def test_another_sites_form_and_who_may_only_look_press_nothing(
    redis_url: str, fill: None, command: Callable[..., Any]
):
    app = App(shards={"a": Shard(redis_url, namespace="{a}"), "b": Shard(redis_url, namespace="{b}")})
    async with visiting(asgi(app)) as stranger:
        for headers in ({"sec-fetch-site": "cross-site"}, {"origin": "http://evil"}, {}):
            answer = await stranger.post("/do/pause", data={"queue": "default"}, headers=headers)
            assert answer.status_code == 403
    async with visiting(asgi(app, read_only=True), headers=HERE) as reader:
        assert (await reader.post("/do/pause", data={"queue": "default"})).status_code == 403
        assert "/do/" not in (await reader.get("/retries")).text
        assert "/do/" not in (await reader.get("/queue?name=default")).text
    assert not command("EXISTS", "{a}:paused")


async def test_it_leads_back_to_no_other_host(visitor: httpx.AsyncClient):
    for back in ("//evil/", "https://evil/", "/\\evil", "/a\r\nx: y"):
        done = await visitor.post("/do/pause", data={"queue": "q", "back": back})
        assert re.fullmatch(r"/\?did=\w+&did=\w+&did=\w+", done.headers["location"])
