"""Attacks: other sites' forms, other names, guessed tokens, frames, and what must not be in a log."""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from visiting import HERE, failed, visiting

from trioworkers.chosen_redis import ChosenRedis
from trioworkers.errors import ConfigurationError
from trioworkers.web import Visitor, asgi
from trioworkers.web.serving import Serving

TOKEN, READ = "write-token-0123456789", "read-token-0123456789"
FORM = {"queue": "default", "back": "/queues"}


def basic(user: str, password: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


async def test_forms_count_only_from_our_own_pages(redis_url: str, command: Callable[..., Any]):
    async with visiting(asgi(redis_url)) as visitor:
        for headers in (
            {"sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "same-site"},
            {"sec-fetch-site": "none"},
            {},
            {"origin": "https://evil.example"},
            {"origin": "null"},
            {"origin": "http://localhost.evil.example"},
            {"origin": "null://localhost"},
            {"origin": "http://localhost:8090"},
            {"sec-fetch-site": "same-origin, cross-site"},
            {"sec-fetch-site": "cross-site", "origin": "http://localhost"},
        ):
            refused = await visitor.post("/do/pause", data=FORM, headers=headers)
            assert refused.status_code == 403, headers
        assert command("SMEMBERS", "paused") == []
        old_browser = await visitor.post("/do/pause", data=FORM, headers={"origin": "http://localhost"})
        assert old_browser.status_code == 303
        assert command("SMEMBERS", "paused") == ["default"]


async def test_nothing_is_changed_by_a_link(visitor: httpx.AsyncClient, command: Callable[..., Any]):
    for path in ("/do/pause?queue=default", "/do/act?all=1&sure=1&act=delete&in=dead"):
        assert (await visitor.get(path)).status_code == 404
        assert (await visitor.request("PUT", path)).status_code == 405
    assert command("SMEMBERS", "paused") == []


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "", "[::2]", "10.0.0.1:8090", "localhost."),
        *("[::1]evil.example", "localhost:evil.example", "localhost:80:80", "localhost,evil", "evil@localhost"),
    ],
)
async def test_without_a_login_no_other_name_is_answered(redis_url: str, host: str):
    async with visiting(asgi(redis_url)) as visitor:
        assert (await visitor.get("/", headers={"host": host})).status_code == 403


@pytest.mark.parametrize("host", ["localhost:8090", "127.0.0.1", "[::1]:8090", "LOCALHOST"])
async def test_this_machines_own_names_are(redis_url: str, host: str):
    async with visiting(asgi(redis_url)) as visitor:
        assert (await visitor.get("/", headers={"host": host})).status_code == 200


async def test_without_a_login_nobody_from_elsewhere_is_answered(redis_url: str):
    async with visiting(asgi(redis_url), client="10.1.2.3") as visitor:
        assert (await visitor.get("/")).status_code == 403
    async with visiting(asgi(redis_url)) as visitor:
        assert (await visitor.get("/", headers={"x-forwarded-for": "10.1.2.3"})).status_code == 403
    async with visiting(asgi(redis_url), client="::ffff:127.0.0.1") as visitor:
        assert (await visitor.get("/")).status_code == 200


@pytest.mark.parametrize(
    ("version", "method", "headers", "status"),
    [
        ("1.1", "GET", {}, 200),
        ("1.1", "GET", {"sec-fetch-site": "same-origin", "referer": "http://localhost/dead"}, 200),
        ("1.1", "GET", {"sec-fetch-site": "cross-site", "referer": "https://wiki.example/"}, 200),  # a link to us
        ("1.1", "POST", {**HERE, "origin": "http://localhost"}, 303),
        ("1.1", "POST", {**HERE, "origin": "null"}, 303),  # a browser that tells nothing of itself
        ("1.0", "GET", {}, 403),  # nginx, if it is told nothing else
        ("2", "GET", {}, 403),  # a tunnel that an upgrade made through a proxy
        ("1.1", "POST", {**HERE, "origin": "https://jobs.example"}, 403),
        ("1.1", "GET", {"sec-fetch-site": "same-origin", "referer": "https://jobs.example/"}, 403),
        *(("1.1", "GET", {name: "x"}, 403) for name in ("forwarded", "via", "x-real-ip", "x-forwarded-host")),
    ],
)
async def test_without_a_login_nobody_is_answered_through_a_proxy(
    redis_url: str, version: str, method: str, headers: dict[str, str], status: int
):
    """One that gives us a name of this machine as the host."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asgi(redis_url)({**scope, "http_version": version}, receive, send)

    async with visiting(app) as visitor:
        form = {"data": FORM} if method == "POST" else {}
        path = "/do/pause" if method == "POST" else "/"
        assert (await visitor.request(method, path, headers=headers, **form)).status_code == status

    async def with_login(scope: Any, receive: Any, send: Any) -> None:
        await asgi(redis_url, token=TOKEN)({**scope, "http_version": version}, receive, send)

    async with visiting(with_login, headers=basic("ada", TOKEN)) as visitor:
        answer = await visitor.request(method, path, headers=headers, **form)
        assert answer.status_code in (200, 303), "a login says who it is"


async def test_tokens(redis_url: str, command: Callable[..., Any]):
    app = asgi(redis_url, token=TOKEN, read_token=READ)
    async with visiting(app, host="jobs.example.com", client="10.1.2.3") as visitor:
        refused = await visitor.get("/")
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"].startswith("Basic")
        for wrong in (
            basic("a", "wrong"),
            basic("a", ""),
            {"authorization": "Bearer"},
            {"authorization": "Basic %%%"},
            {"authorization": f"Bearer {TOKEN}x"},
        ):
            assert (await visitor.get("/", headers=wrong)).status_code == 401
        assert (await visitor.get("/queues", headers={"authorization": f"Bearer {READ}"})).status_code == 200
        may_look = await visitor.post("/do/pause", data=FORM, headers={**basic("eve", READ), **HERE})
        assert may_look.status_code == 403
        may_act = await visitor.post("/do/pause", data=FORM, headers={**basic("ada", TOKEN), **HERE})
        assert may_act.status_code == 303
        assert command("SMEMBERS", "paused") == ["default"]


async def test_writes_are_logged_with_who_and_tokens_never_are(redis_url: str, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.DEBUG), caplog.at_level(logging.DEBUG, logger="trioworkers"):
        async with visiting(asgi(redis_url, token=TOKEN), host="x") as visitor:
            await visitor.get("/", headers=basic("a", TOKEN + "x"))
            await visitor.post("/do/pause", data=FORM, headers={**basic("ada\x1b[31m", TOKEN), **HERE})
    assert "pause default, by ada\\x1b[31m" in caplog.text
    assert TOKEN not in caplog.text


async def test_a_function_decides(redis_url: str):
    async def auth(scope: Any) -> Visitor | None:
        path = scope["path"]
        return None if path == "/dead" else Visitor("read", "ada")

    async with visiting(asgi(redis_url, auth=auth), host="x", client="10.0.0.1", headers=HERE) as visitor:
        assert (await visitor.get("/")).status_code == 200
        assert (await visitor.get("/dead")).status_code == 401
        assert (await visitor.post("/do/pause", data=FORM)).status_code == 403
    async with visiting(asgi(redis_url, auth=lambda _: "write", hosts=["jobs.example"]), host="x") as visitor:
        assert (await visitor.get("/")).status_code == 403
        assert (await visitor.get("/", headers={"host": "Jobs.example:99"})).status_code == 200


async def test_read_only_has_no_buttons_and_takes_none(redis_url: str, command: Callable[..., Any]):
    command("ZADD", "dead", 1, failed(1))
    async with visiting(asgi(redis_url, read_only=True), headers=HERE) as visitor:
        for path in ("/dead", "/queues", "/processes", f"/job?jid={1:024x}"):
            assert "/do/" not in (await visitor.get(path)).text
        assert (await visitor.post("/do/pause", data=FORM)).status_code == 403


async def test_every_answer_forbids_what_it_does_not_need(visitor: httpx.AsyncClient):
    for path in ("/", "/nix", "/static/style.css", "/rates.svg", "/dead"):
        headers = (await visitor.get(path)).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "set-cookie" not in headers


async def test_a_button_leads_back_to_us_only(visitor: httpx.AsyncClient):
    for back in (
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "javascript:alert(1)",
        "/a\r\nset-cookie: x",
    ):
        done = await visitor.post("/do/pause", data={"queue": "q", "back": back})
        assert done.status_code == 303
        assert done.headers["location"].startswith("/?did=")


async def test_what_no_form_of_ours_sends_is_refused(visitor: httpx.AsyncClient):
    assert (
        await visitor.post("/do/pause", content=b"{}", headers={"content-type": "application/json"})
    ).status_code == 415
    assert (await visitor.post("/do/nix", data=FORM)).status_code == 404
    assert (await visitor.post("/do/pause", data={"queue": "a\x00b"})).status_code == 400


async def test_a_form_without_end_is_read_to_a_megabyte(redis_url: str):
    sent: list[Any] = []
    read = 0

    async def receive() -> dict[str, Any]:
        nonlocal read
        read += 100_000
        return {"type": "http.request", "body": b"x" * 100_000, "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [
        (b"host", b"localhost"),
        (b"sec-fetch-site", b"same-origin"),
        (b"content-type", b"application/x-www-form-urlencoded"),
    ]
    scope = {"type": "http", "method": "POST", "path": "/do/pause", "headers": headers, "client": ("127.0.0.1", 1)}
    await asgi(redis_url)(scope, receive, send)
    assert sent[0]["status"] == 413
    assert read < 1_300_000


def test_what_others_reach_needs_a_login():
    redis = ChosenRedis("redis://127.0.0.1:1/0")
    for bind in ("0.0.0.0:8090", ":::8090", "10.0.0.1:80", "jobs.example.com:80"):
        with pytest.raises(ConfigurationError, match="needs a login"):
            Serving(bind).application(redis)
        Serving(bind, TOKEN).application(redis)
    for bind in ("127.0.0.1:8090", "localhost:1", "[::1]:8090", ":8090"):
        Serving(bind).application(redis)
    with pytest.raises(ConfigurationError, match="16 characters"):
        Serving("0.0.0.0:80", "short").application(redis)
