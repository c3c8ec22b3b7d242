"""What pages show of what strangers put into Redis: all of it readable, bounded, and none of it obeyed."""

from __future__ import annotations

import html
import json
import re
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import trio
from servers import Server
from visiting import HERE, PAGES, failed, harmless_text, payload, visiting

from trioworkers.errors import ConfigurationError
from trioworkers.web import asgi
from trioworkers.web.pages import PAGES as ALL_PAGES
from trioworkers.wire.places import sets

MARKUP = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}\x1b[31m\u202egnp\u200b\u0000\n"
MOST_BYTES = 50_000


def fill_with_markup(command: Callable[..., Any]) -> None:
    fields = ("class", "jid", "error_class", "error_message", "queue", "wrapped")
    hostile: dict[str, Any] = dict.fromkeys(fields, MARKUP) | {"tags": [MARKUP], "args": [MARKUP]}
    for key, place in (("retry", failed), ("dead", failed), ("schedule", payload)):
        command("ZADD", key, time.time(), place(1, **hostile))
    command("SADD", "queues", MARKUP, "default")
    command("SADD", "tw:finished", MARKUP, "SyncJob")
    command("LPUSH", f"tw:finished:{MARKUP}", "x")
    ended = json.dumps({"jid": MARKUP, "how": MARKUP, "queue": MARKUP, "took_s": 1e300})
    command("LPUSH", "tw:finished:SyncJob", f"5.000 {ended}", "x", f"1e300 {ended}")
    command("SADD", "paused", MARKUP)
    command("SADD", "tw:paused:classes", MARKUP)
    command("LPUSH", f"queue:{MARKUP}", payload(2, **hostile))
    command("LPUSH", "queue:default", payload(2, **hostile))
    command("SADD", "processes", MARKUP)
    info = json.dumps(
        {"hostname": MARKUP, "tag": MARKUP, "queues": [MARKUP], "labels": [MARKUP], "version": MARKUP, "concurrency": 5}
    )
    command("HSET", MARKUP, "info", info, "busy", 1, "beat", time.time(), "quiet", "false")
    ours = json.dumps({"hostname": MARKUP, "tag": MARKUP, "queues": [MARKUP], "labels": ["trioworkers"]})
    hosts = json.dumps([[MARKUP, 1, 2, 3, 4, -1, MARKUP], ["h" * 100_000, 1, 10**18, 1, 1, 5, "e" * 100_000]])
    command("SADD", "processes", "ours:1:x")
    command("HSET", "ours:1:x", "info", ours, "busy", 1, "beat", time.time(), "quiet", "false", "tw_hosts", hosts)
    work = json.dumps({"queue": MARKUP, "payload": payload(3, **hostile), "run_at": time.time()})
    command("HSET", f"{MARKUP}:work", "t1", work)


async def test_no_page_obeys_markup_in_any_field(visitor: httpx.AsyncClient, command: Callable[..., Any]):
    fill_with_markup(command)
    places = {
        f"/queue?name={quote(MARKUP)}",
        f"/job?jid={quote(MARKUP)}",
        f"/search?q={quote(MARKUP)}",
        f"/{quote(MARKUP)}",
    }
    for path in {*PAGES, *places, "/dead?q=script"}:
        found = await visitor.get(path)
        assert found.status_code in (200, 400, 404), (path, found.text)
        harmless_text(found.text)
        assert len(found.content) < MOST_BYTES, path


@pytest.mark.parametrize("place", ["dead", "nowhere"])
async def test_nothing_that_is_known_besides_a_payload_is_obeyed(
    visitor: httpx.AsyncClient, command: Callable[..., Any], place: str
):
    jid = "f" * 24
    record = {"steps": {MARKUP: MARKUP}, "at": {MARKUP: [MARKUP * 100]}, "beside": [300, 3_000_000]}
    for number in range(300):
        command("HSET", f"tw:steps:{jid}", f"{MARKUP}{number}", json.dumps(MARKUP * 100))
    command("SET", f"tw:log:{jid}", json.dumps([[1.0, MARKUP, MARKUP], [1e300, "x" * 500, "y" * 900]] * 20))
    command("SET", "tw:log:huge-jid", "[" + "1," * 10_000_000)
    command("SET", f"tw:progress:{jid}", json.dumps({"at": 1e15 - 1, "total": 1e-308, "message": MARKUP * 50}))
    command("SET", f"tw:result:{jid}", json.dumps({"how": MARKUP, "error_class": MARKUP, "error_message": MARKUP}))
    if place == "dead":
        command("ZADD", "dead", 1, failed(1, jid=jid, tw_record=record))
    found = await visitor.get(f"/job?jid={jid}")
    harmless_text(found.text)
    assert "What it logged last" in found.text
    assert "How far it is" in found.text
    assert (await visitor.get("/job?jid=huge-jid")).status_code == 200
    assert ("What it has done already" in found.text) == (place == "dead")
    assert len(found.content) < 2 * MOST_BYTES, len(found.content)  # what one job has logged may take as much again


async def test_what_cannot_be_read_is_shown_all_the_same(visitor: httpx.AsyncClient, command: Callable[..., Any]):
    odd = [
        b"",
        b"no json",
        b"[1,2]",
        b"\xff\xfe",
        b"{}",
        b'{"class":5,"args":{},"jid":[]}',
        b"[" * 5000,
        b'{"jid":"\\ud800"}',
    ]
    for number, each in enumerate(odd):
        command("ZADD", "dead", time.time() + number, each)
        command("LPUSH", "queue:default", each)
    command("SADD", "queues", "default")
    command("SET", "queue:text", "not a list")
    command("SADD", "queues", "text")
    command("SADD", "processes", "h:1:x")
    command("HSET", "h:1:x", "info", "{", "beat", "x")
    for path in PAGES:
        found = await visitor.get(path)
        assert found.status_code == 200, path
    assert "8 jobs" in (await visitor.get("/dead")).text
    assert "wrong kind of value" in (await visitor.get("/queues")).text


async def test_large_payloads_stay_within_a_page(visitor: httpx.AsyncClient, command: Callable[..., Any]):
    for number in range(30):
        command("LPUSH", "queue:default", payload(number, args=["x" * 200_000]))
    command("LPUSH", "queue:default", payload(99, args=["y" * 5_000_000], error_message="z" * 100_000))
    command("SADD", "queues", "default")
    for path in ("/queue?name=default", "/queue?name=default&from=25", f"/job?jid={99:024x}"):
        found = await visitor.get(path)
        assert found.status_code == 200
        assert len(found.content) < MOST_BYTES
    assert "5,100,1" in found.text  # how large it is
    whole = await visitor.get(f"/payload?jid={99:024x}")
    assert whole.text.count("y") > 4_900_000


async def test_pages_of_a_list_lead_on(visitor: httpx.AsyncClient, command: Callable[..., Any]):
    for number in range(60):
        command("ZADD", "dead", number, failed(number))
    first = (await visitor.get("/dead")).text
    assert f"{59:024x}" in first
    assert f"{30:024x}" not in first
    assert "60 jobs, 1 to 25 shown" in first
    assert "/dead?from=25" in first
    last = (await visitor.get("/dead?from=50")).text
    assert f"{0:024x}" in last
    assert "next →" not in last


async def test_a_filter_says_how_far_it_looked(visitor: httpx.AsyncClient, command: Callable[..., Any]):
    for number in range(40):
        command("ZADD", "dead", number, failed(number, error_class="KeyError" if number % 10 == 0 else "ValueError"))
    found = (await visitor.get("/dead?q=error%3DKeyError")).text
    assert "4 matches among 40 jobs looked at, of 40 here" in found
    many = (await visitor.get("/dead?q=error%3DValueError")).text
    assert "look further" in many
    nothing = (await visitor.get("/dead?q=nosuch")).text
    assert "Nothing that was looked at matches" in nothing
    for wrong in ("nofield=1", "class>5", '"', "age=x", "x" * 2000):
        assert "error" not in (found := await visitor.get(f"/dead?q={quote(wrong)}")).text.partition('role="alert"')[0]
        assert 'role="alert"' in found.text


async def test_tilde_contains_and_is_no_regular_expression(visitor: httpx.AsyncClient, command: Callable[..., Any]):
    command("ZADD", "dead", 1, failed(1, error_message="a" * 5000))
    command("ZADD", "dead", 2, failed(2, error_message="(a+)+$ said"))
    found = (await visitor.get("/dead?q=" + quote("'error~(a+)+$'"))).text
    assert f"{2:024x}" in found
    assert f"{1:024x}" not in found


async def test_search_looks_in_all_places(visitor: httpx.AsyncClient, command: Callable[..., Any]):
    command("ZADD", "dead", 1, failed(1, **{"class": "NeedleJob"}))
    command("ZADD", "schedule", 1, payload(2, args=["a needle"]))
    command("LPUSH", "queue:default", payload(3, tags=["needle"]))
    command("SADD", "queues", "default")
    found = (await visitor.get("/search?q=needle")).text
    assert all(f"{number:024x}" in found for number in (1, 2, 3))
    assert f"{len(sets()) + 1} places looked at" in found


async def test_a_job_is_found_by_its_id_and_by_where_it_lay(visitor: httpx.AsyncClient, command: Callable[..., Any]):
    command("ZADD", "retry", 12.5, failed(7))
    by_id = await visitor.get(f"/job?jid={7:024x}")
    assert "ValueError" in by_id.text
    pick = json.dumps(["retry", "", "12.5", f"{7:024x}"])
    by_place = await visitor.get(f"/job?pick={quote(pick)}")
    assert "ValueError" in by_place.text
    command("DEL", "retry")
    gone = await visitor.get(f"/job?pick={quote(pick)}")
    assert "no job" in gone.text


async def test_redaction_comes_before_everything(redis_url: str, command: Callable[..., Any]):
    command("ZADD", "dead", 1, failed(1, args=["secret"], error_message="secret too"))
    command("ZADD", "dead", 2, "no json secret")

    def redact(job: dict[str, Any]) -> dict[str, Any]:
        return {**job, "args": ["…"], "error_message": "…"}

    async with visiting(asgi(redis_url, redact=redact)) as visitor:
        for path in ("/dead", "/dead?q=secret", "/search?q=secret", f"/job?jid={1:024x}", f"/payload?jid={1:024x}"):
            found = (await visitor.get(path)).text
            assert "secret too" not in found
            assert "[&#34;secret" not in found
        assert "Nothing that was looked at matches" in (await visitor.get("/dead?q=secret")).text

    def fails(job: dict[str, Any]) -> dict[str, Any]:
        raise KeyError("secret")

    async with visiting(asgi(redis_url, redact=fails)) as visitor:
        found = (await visitor.get("/dead")).text
        assert "secret" not in found
        assert f"{1:024x}" in found


async def test_redis_that_is_away_is_said_and_the_page_tries_again(server: Server):
    async with visiting(asgi(server.url), headers=HERE) as visitor:
        assert (await visitor.get("/")).status_code == 200
        server.kill()
        while (await visitor.get("/")).status_code == 200:  # what it said a moment ago
            await trio.sleep(0.1)
        for path in ("/", "/queues", "/busy"):
            found = await visitor.get(path)
            assert found.status_code == 503
            assert "no answer from Redis" in found.text
            assert "data-again" in found.text
        assert "no answer from Redis" in (await visitor.get("/dead")).text
        server.start()
        assert (await visitor.get("/queues")).status_code == 200


async def test_five_hundred_tabs_cost_redis_what_one_costs(visitor: httpx.AsyncClient, command: Callable[..., Any]):
    def asked() -> int:
        return int(str(command("INFO", "stats")).partition("total_commands_processed:")[2].split()[0])

    before = asked()
    await visitor.get("/")
    first, before, began = asked() - before, asked(), trio.current_time()
    for _ in range(20):
        await visitor.get("/")
    looks = 1 + trio.current_time() - began  # each is shared for a second
    assert asked() - before <= 1 + looks * first


async def test_pictures_show_what_ended(visitor: httpx.AsyncClient, command: Callable[..., Any]):
    at = time.gmtime(time.time() - 120)
    day = time.strftime("%y%m%d", at)
    for key in (f"j|{day}|{at.tm_hour}:{at.tm_min:02}", f"j|{day}|{at.tm_hour}:{at.tm_min // 10}"):
        command("HSET", key, "A|p", 10, "A|f", 3, "A|ms", 99, "B|p", 5, "<b>|p", "x")
    for span in ("hour", "day", "three-days", "nonsense"):
        found = await visitor.get(f"/rates.svg?span={span}")
        assert found.headers["content-type"] == "image/svg+xml"
        assert "12 ended well" in found.text
        assert "3 failed" in found.text


def test_every_page_of_the_menu_is_tried_here():
    assert {path.partition("?")[0] for path in PAGES} | {"/job", "/payload", "/batch", "/outbox"} == set(ALL_PAGES)


def test_an_embedded_redis_has_no_address():
    with pytest.raises(ConfigurationError, match="worker's own"):
        asgi("embedded:")


async def test_doctor_finds_what_the_command_finds_and_says_nothing_in_the_log(
    visitor: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
):
    found = (await visitor.get("/doctor")).text
    assert all(f"<strong>{check}</strong>" in found for check in ("round trip", "clock", "permissions", "orphans"))
    assert "unreachable" not in caplog.text


async def test_a_jobs_page_says_that_it_looks_before_it_has_found_it(
    visitor: httpx.AsyncClient, command: Callable[..., Any]
):
    command("LPUSH", "queue:default", payload(7))
    command("SADD", "queues", "default")
    page = (await visitor.get(f"/job?jid={7:024x}")).text
    assert page.index(f"Looking for <code>{7:024x}</code>") < page.index("<h1>SyncJob")
    gone = (await visitor.get(f"/job?jid={8:024x}")).text
    assert gone.index("Looking for") < gone.index("in any queue or set")
    listed = (await visitor.get("/queue?name=default")).text
    picked = re.findall(r'href="(/job\?pick=[^"]*)"', listed)[0]
    assert "Looking for" not in (await visitor.get(html.unescape(picked))).text, "it is known where that is"
