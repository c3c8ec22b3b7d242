"""The dashboard of an App with several Redises: all of them on one page, each of them on its own, buttons where they belong, and what is seen of one that is away."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families
from servers import ROOT, free_port
from visiting import HERE, PAGES, failed, harmless_text, payload, visiting

from trioworkers import App, Shard
from trioworkers.observe.metrics import Metrics
from trioworkers.web import asgi, sharded

JID_A, JID_B = f"{1:024x}", f"{2:024x}"
EVERY = (*PAGES, f"/job?jid={JID_A}", f"/payload?jid={JID_B}", "/batch?id=x")

TEMPLATES = ROOT / "trioworkers/web/templates"


def app_over(redis_url: str, **more: Shard) -> App:
    return App(shards={"a": Shard(redis_url, namespace="{a}"), "..": Shard(redis_url, namespace="{b}"), **more})


@pytest.fixture
def filled(command: Callable[..., Any]) -> None:
    for space, number in (("{a}", 1), ("{b}", 2)):
        command("SADD", f"{space}:queues", "default")
        command("LPUSH", f"{space}:queue:default", payload(number))
        command("ZADD", f"{space}:dead", 1, failed(number + 10))


@pytest.fixture
async def visitor(redis_url: str, filled: None) -> AsyncIterator[httpx.AsyncClient]:
    async with visiting(asgi(app_over(redis_url)), headers=HERE) as found:
        yield found


def words(answer: httpx.Response) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", answer.text)).split())


@pytest.mark.parametrize("path", EVERY)
async def test_every_page_shows_all_shards_with_addresses_and_names_that_differ(visitor: httpx.AsyncClient, path: str):
    answer = await visitor.get(path)
    assert answer.status_code == 200
    harmless_text(answer.text.replace("/shards/~a", "").replace("/shards/~..", ""))
    assert "our own mistake" not in answer.text
    for name in ("'a'", "'..'"):
        assert f"shard {name}" in words(answer)
    ids = Counter(re.findall(r' id="([^"]*)"', answer.text))
    assert not [each for each, count in ids.items() if count > 1]
    for name in re.findall(r' aria-labelledby="([^"]*)"', answer.text) + re.findall(r' for="([^"]*)"', answer.text):
        assert set(name.split()) <= set(ids)
    assert set(re.findall(r'action="(?:/shards/~[a.]+/do/|/do/(?!(?:act|pause|resume|purge)"))', answer.text)) <= {
        'action="/shards/~a/do/',
        'action="/shards/~../do/',
    }
    assert answer.text.count("<h1>") == 1


def test_no_template_of_a_page_names_its_parts_by_itself():
    """Beside another shard's the same name would be there twice."""
    whole_pages = {"frame.html", "confirm.html", "confirm_all.html", "all_shards.html", "shards.html"}
    templates = [path for path in TEMPLATES.glob("*.html") if path.name not in whole_pages]
    assert len(templates) > 20
    for path in templates:
        assert not re.findall(r'\s(?:id|for|form|aria-labelledby)="(?!\{\{ section\.)[^"]*"|<h1', path.read_text()), (
            path.name
        )


async def test_a_button_acts_in_the_shard_whose_page_it_is_on(visitor: httpx.AsyncClient, command: Callable[..., Any]):
    page = await visitor.get("/queues")
    assert 'action="/shards/~a/do/pause"' in page.text
    pressed = await visitor.post("/shards/~../do/pause", data={"queue": "default", "back": "/queues"})
    assert pressed.headers["location"].startswith("/shards/~../queues?did=")
    assert "default: paused" in words(await visitor.get(pressed.headers["location"]))
    assert command("SMEMBERS", "{b}:paused") or command("KEYS", "{b}:*paused*")
    assert not command("KEYS", "{a}:*paused*")
    assert (await visitor.post("/do/cancel", data={"jid": "x"})).status_code == 405


async def test_a_job_is_found_in_whichever_shard_it_is(visitor: httpx.AsyncClient):
    answer = await visitor.get(f"/job?jid={JID_B}")
    assert "/shards/~../job?pick=" in answer.text or JID_B in words(answer)
    assert 'action="/shards/~../do/act"' in answer.text
    assert 'action="/shards/~a/do/act"' not in answer.text


async def test_the_menu_of_shards_keeps_the_page(visitor: httpx.AsyncClient):
    answer = await visitor.get("/shards/~a/dead?q=sync")
    assert 'href="/shards/~../dead?q=sync"' in answer.text
    assert 'href="/dead?q=sync"' in answer.text
    assert JID_B[:13] not in words(answer)
    one = await visitor.get(f"/shards/~a/job?jid={JID_A}")
    assert 'href="/shards/~../"' in one.text


async def test_mounted_below_a_path_all_addresses_are_below_it(redis_url: str, filled: None):
    inner = asgi(app_over(redis_url))

    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        await inner({**scope, "root_path": "/ops"}, receive, send)

    async with visiting(mounted, headers=HERE) as visitor:
        for path in ("/ops/", "/ops/queues", "/ops/shards/~a/queues", "/ops/shards/~a"):
            answer = await visitor.get(path)
            assert answer.status_code == 200
            for url in re.findall(r'(?:href|action|src)="([^"#]+)', answer.text):
                assert url.startswith("/ops/"), url
                if "/do/" not in url:
                    assert (await visitor.get(html.unescape(url))).status_code == 200, url


@pytest.mark.parametrize("path", ["/shards/~b/", "/shards/a/", "/shards/~../../x", "/shards/~a/nothing", "/nothing"])
async def test_what_isnt_there_is_said(visitor: httpx.AsyncClient, path: str):
    answer = await visitor._transport.handle_async_request(httpx.Request("GET", f"http://localhost{path}"))
    assert answer.status_code == 404


async def test_a_shard_that_is_away_is_said_and_the_others_are_shown(redis_url: str, filled: None):
    away = Shard(f"redis://127.0.0.1:{free_port()}", namespace="{c}")
    async with visiting(asgi(app_over(redis_url, gone=away)), headers=HERE) as visitor:
        first = await visitor.get("/")
        assert first.status_code == 200
        assert re.search(r"shard 'gone' : .*no answer from Redis", words(first))
        assert "away" in words(first)
        for path in EVERY:
            answer = await visitor.get(path)
            assert answer.status_code == 200, path
            assert "shard 'a'" in words(answer)
            if path not in ("/", "/done"):
                assert re.search(r"shard 'gone' .*(no answer|not found|no job|no batch)", words(answer)), path
        assert (await visitor.get("/shards/~gone/queues")).status_code == 503
        pressed = await visitor.post("/shards/~a/do/pause", data={"queue": "default", "back": "/queues"})
        assert "default: paused" in words(await visitor.get(pressed.headers["location"]))


async def test_a_shard_that_is_silent_holds_up_the_first_page_once(
    redis_url: str, filled: None, monkeypatch: pytest.MonkeyPatch
):
    """It takes connections and says nothing."""
    monkeypatch.setattr(sharded, "PATIENCE_S", 4.0)
    monkeypatch.setattr(sharded, "AWAY_S", 1000.0)
    silent = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = silent[0].socket.getsockname()[1]
    asked = 0

    async def say_nothing(stream: trio.SocketStream) -> None:
        nonlocal asked
        asked += 1
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, say_nothing, silent)
        app = app_over(redis_url, mute=Shard(f"redis://127.0.0.1:{port}", namespace="{c}"))
        async with visiting(asgi(app), headers=HERE) as visitor:
            for _ in range(20):
                answer = await visitor.get("/")
                assert "shard 'mute' : no answer" in words(answer), words(answer)
                assert "'a' see above 1" in words(answer) or "'a' well 1" in words(answer)
            assert 1 <= asked <= 2
        nursery.cancel_scope.cancel()


async def test_metrics_are_of_each_shard_and_say_which_is_away(redis_url: str, filled: None):
    away = Shard(f"redis://127.0.0.1:{free_port()}", namespace="{c}")
    app = app_over(redis_url, gone=away)
    async with visiting(asgi(app, metrics=Metrics(app)), headers=HERE) as visitor:
        text = (await visitor.get("/metrics")).text
        one = (await visitor.get("/shards/~a/metrics")).text
    families = list(text_string_to_metric_families(text))
    assert max(Counter(family.name for family in families).values()) == 1
    samples = {(s.name, s.labels.get("shard", "")): s.value for family in families for s in family.samples}
    assert [samples["sidekiq_dead_jobs", name] for name in ("a", "..")] == [1, 1]
    assert [samples["trioworkers_shard_up", name] for name in ("a", "..", "gone")] == [1, 1, 0]
    assert ("sidekiq_dead_jobs", "gone") not in samples
    assert "trioworkers_http_calls" in text
    assert "trioworkers_http_calls" not in one
    assert "shard=" not in one
