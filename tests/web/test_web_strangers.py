"""Markup, quotes, terminal codes and what turns or hides text, in every field that strangers write: each is shown on some page, and none is obeyed on any.

A field has a number at its beginning by which it is found. What pages may consist of is read from the templates: an element or an attribute that is in none of them came from a field.
"""

from __future__ import annotations

import base64
import html
import json
import re
import time
import zlib
from collections.abc import Callable
from functools import cache
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from servers import ROOT, Server
from visiting import HERE, PAGES, payload, visiting

from trioworkers import App, Batch, Client, Context, Job, Unique
from trioworkers.web import asgi
from trioworkers.web.pages import PAGES as ALL_PAGES
from trioworkers.wire.packing import pack

WEB = ROOT / "trioworkers/web"
HIDDEN = "\x1b[31m\x9b31m\u202e\u2066\u200e\u200b\u2060\ufeff\u00ad\u2028\x00\x7f"
MARKUP = f"\"'><script>alert(1)</script><b onclick=x>--></title></textarea><a href=javascript:x>{{{{ 7*7 }}}}&lt;i&gt;{HIDDEN}\n"
FIELDS = (
    *(
        "class",
        "jid",
        "wrapped",
        "queue of the payload",
        "argument",
        "tag",
        "error class",
        "error message",
        "backtrace",
    ),
    *("queue", "paused queue", "paused class", "finished class", "how it ended"),
    *("identity", "tag of the process", "label", "version", "queue of the process", "host", "failure of the host"),
    *("running queue", "running class", "step", "receipt", "progress", "log level", "log line"),
    *("batch", "member", "argument of the member", "cron name", "cron class", "cron zone", "broken cron"),
    *("unique class", "limit", "shard", "unreadable payload", "parked class", "query", "outbox entry"),
)
NEVER_SHOWN = {"broken cron", "cron zone", "label"}
"""Only what we know is made of these."""


def evil(name: str) -> str:
    return f"Z{FIELDS.index(name):02d}z{MARKUP}"


class _Shape(HTMLParser):
    """Which elements with which attributes; and where links and forms lead."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.pairs: set[tuple[str, str]] = set()
        self.addresses: list[str] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.pairs |= {(tag, ""), *((tag, name) for name, _ in attributes)}
        self.addresses += [
            value or "" for name, value in attributes if name in ("href", "src", "srcset", "action", "formaction")
        ]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@cache
def vocabulary() -> frozenset[tuple[str, str]]:
    pairs: set[tuple[str, str]] = {("h1", ""), ("h3", "")}  # their level is computed
    for path in (WEB / "templates").glob("*.html"):
        pairs |= _Shape(re.sub(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", "", path.read_text(), flags=re.DOTALL)).pairs
    return frozenset(pairs)


def check(page: str, path: str) -> None:
    shape = _Shape(page)
    assert shape.pairs <= vocabulary(), (path, shape.pairs - vocabulary())
    for address in shape.addresses:
        assert re.match(r"(/(?!/)|#|$)", address), (path, address)
    bad = {char for char in page if char != "\n" and char in HIDDEN.replace("[31m", "").replace("31m", "")}
    assert not bad, (path, [line for line in page.split("\n") if bad & {*line}][:3])
    assert "49" not in re.findall(r"Z\d\dz\"'&gt;[^Z]{0,200}?(49)&amp;", page), path


def test_templates_escape_everything_themselves():
    """So the table here is a second look: a new page or field is escaped without anybody's doing."""
    for path in (WEB / "templates").iterdir():
        assert not re.search(r"\|\s*safe|autoescape|Markup|\|\s*e\b", path.read_text()), path.name
        assert not re.search(r"=\{\{|=\{%", path.read_text()), f"{path.name}: a value without quotes"
        assert not re.search(r"<(script|style)[^>]*>[^<]*\{\{", path.read_text()), path.name
    makers = {path.name for path in WEB.rglob("*.py") if re.search(r"\bMarkup\(", path.read_text())}
    assert makers == {"rendering.py", "sharded.py"}


def test_the_check_would_see_it():
    check("<p>x</p>", "")
    for bad in (
        "<b>",
        "<p onclick=x>",
        "<a href='javascript:x'>",
        "<a href='//evil'>",
        "<p>\u202e",
        "<script>x</script><i>",
    ):
        with pytest.raises(AssertionError):
            check(bad, "")


async def fill(url: str, command: Callable[..., Any]) -> tuple[str, ...]:
    """Every field; the pages besides those that are always there."""
    job = {
        "class": evil("class"),
        "wrapped": evil("wrapped"),
        "queue": evil("queue of the payload"),
        "args": [evil("argument")],
        "tags": [evil("tag")],
        "error_class": evil("error class"),
        "error_message": evil("error message"),
        "error_backtrace": base64.b64encode(zlib.compress(json.dumps([evil("backtrace")]).encode())).decode(),
        "retry_count": 1,
        "failed_at": time.time(),
        "tw_record": {"steps": {evil("step"): evil("receipt")}},
    }
    for key in ("retry", "dead", "schedule"):
        command("ZADD", key, time.time(), payload(1, **job, jid=evil("jid")), time.time(), payload(2, **job))
    command("ZADD", "tw:parked", time.time(), payload(3, **{**job, "class": evil("parked class")}))
    command("ZADD", "dead", 1, evil("unreadable payload"))
    command("SADD", "queues", evil("queue"), evil("paused queue"), "default")
    for name in ("queue", "paused queue"):
        command("LPUSH", f"queue:{evil(name)}", payload(4, **job))
    command("SADD", "paused", evil("paused queue"))
    command("SADD", "tw:paused:classes", evil("paused class"))
    command("SADD", "tw:finished", evil("finished class"), "SyncJob")
    ended = {"jid": evil("jid"), "how": evil("how it ended"), "queue": evil("queue"), "took_s": 1}
    command("LPUSH", "tw:finished:SyncJob", f"5.000 {json.dumps(ended)}", evil("unreadable payload"))
    fill_processes(command, job)
    fill_besides(command)
    command("SADD", "tw:outboxes", evil("shard"))
    command("RPUSH", f"tw:outbox:{evil('shard')}", evil("outbox entry"))
    batch = Batch(evil("batch"))
    batch.add(Job("default", evil("member"), [evil("argument of the member")], runs_here=True))
    app = App(url)
    app.queue("q")

    @app.handler("q", evil("unique class"), unique=Unique(by="customer"))
    async def alone(_: Context, customer: str) -> None: ...

    async with Client(url) as client:
        await client.enqueue(batch)
        await client.enqueue(alone.job(MARKUP))
        await client.periodic("nightly", "0 4 * * *", Job("default", evil("cron class"), [MARKUP]))
    command("HSET", f"tw:cron:{evil('cron name')}", "definition", evil("broken cron"))
    command("ZADD", "tw:cron", 5, evil("cron name"))
    command("HSET", "tw:limits", evil("limit"), pack([1, 1]))
    return (
        *(f"/job?jid={quote(evil('jid'))}", f"/job?jid={2:024x}", "/job?jid=over", f"/payload?jid={2:024x}"),
        *(f"/batch?id={batch.id}", f"/queue?name={quote(evil('queue'))}", f"/queue?name={quote(evil('paused queue'))}"),
        *("/cron?name=nightly", f"/cron?name={quote(evil('cron name'))}", f"/limits?name={quote(evil('limit'))}"),
        *(f"/search?q={quote(evil('query'))}", f"/dead?q={quote(evil('query'))}", f"/done?did={quote(MARKUP)}"),
        *(
            f"/finished?class={quote(evil('finished class'))}",
            "/search?q=class~Z",
            "/dead?q=error~Z",
            f"/{quote(MARKUP)}",
        ),
        f"/outbox?target={quote(evil('shard'))}",
        *(f"/job?jid={quote(evil('query'))}", f"/batch?id={quote(evil('query'))}", "/queues?back=//evil"),
    )


def fill_processes(command: Callable[..., Any], job: dict[str, Any]) -> None:
    theirs = {
        "hostname": evil("host"),
        "tag": evil("tag of the process"),
        "queues": [evil("queue of the process")],
        "labels": [evil("label")],
        "version": evil("version"),
        "concurrency": 5,
    }
    states = json.dumps([[evil("host"), 1, 2, 3, 4, 5, evil("failure of the host")]])
    for identity, labels in ((f"{evil('identity')}:1:x", theirs["labels"]), ("ours:1:x", ["trioworkers"])):
        command("SADD", "processes", identity)
        info = json.dumps({**theirs, "labels": labels})
        command("HSET", identity, "info", info, "busy", 1, "beat", time.time(), "quiet", "false", "tw_hosts", states)
        running = payload(5, **{**job, "class": evil("running class"), "wrapped": ""})
        work = json.dumps({"queue": evil("running queue"), "payload": running, "run_at": time.time()})
        command("HSET", f"{identity}:work", "t1", work)


def fill_besides(command: Callable[..., Any]) -> None:
    jid = f"{2:024x}"
    for each in (jid, "over"):
        command("SET", f"tw:log:{each}", json.dumps([[1.0, evil("log level"), evil("log line")]]))
        command("SET", f"tw:progress:{each}", json.dumps({"at": 1, "total": 4, "message": evil("progress")}))
        command("SET", f"tw:result:{each}", json.dumps({"how": MARKUP, "error_class": MARKUP, "error_message": MARKUP}))


async def look_everywhere(visitor: httpx.AsyncClient, more: tuple[str, ...]) -> tuple[set[str], str]:
    """At all pages, and those of jobs to which they lead: which they are, and all that they show."""
    paths, looked_at, texts = {*PAGES, *more}, set[str](), []
    while to_look_at := sorted(paths - looked_at):
        looked_at.add(path := to_look_at[0])
        found = await visitor.get(path)
        assert found.status_code in (200, 400, 404), (path, found.text)
        check(found.text, path)
        assert "our own mistake" not in found.text, path
        paths |= {html.unescape(each) for each in re.findall(r'href="(/job\?pick=[^"]*)"', found.text)}
        texts.append(html.unescape(found.text))
    return paths, "\n".join(texts)


def fields_in(text: str) -> set[str]:
    return {FIELDS[int(each)] for each in re.findall(r"Z(\d\d)z", text)}


async def test_every_field_is_shown_and_none_is_obeyed(
    visitor: httpx.AsyncClient, redis_url: str, command: Callable[..., Any], shared_server: Server
):
    paths, text = await look_everywhere(visitor, await fill(redis_url, command))
    missing = {*FIELDS} - fields_in(text)
    assert missing == NEVER_SHOWN
    assert {path.partition("?")[0] for path in paths} >= set(ALL_PAGES), "a page that no test looks at"
    for path in ("/rates.svg", f"/waiting.svg?queue={quote(evil('queue'))}&what={quote(MARKUP)}&span={quote(MARKUP)}"):
        picture = await visitor.get(path)
        assert "<script" not in picture.text
        assert "onclick" not in picture.text


SECRET = {evil(name) for name in ("class", "member", "parked class", "running class", "cron class", "unique class")}
WITHHELD = {
    *("argument", "tag", "error class", "error message", "backtrace", "step", "receipt", "progress", "log line"),
    *("argument of the member", "log level", "unreadable payload"),
}


async def test_no_page_shows_what_is_withheld(redis_url: str, command: Callable[..., Any]):
    """Whether it is in the payload, beside it, or left behind by a job whose class nobody knows any more."""

    def redact(job: dict[str, Any]) -> dict[str, Any]:
        if job.get("class") not in SECRET:
            return job  # of whatever has no class, too
        kept = ("class", "wrapped", "jid", "queue", "created_at", "enqueued_at", "retry_count", "failed_at", "batch")
        return {name: job[name] for name in kept if name in job}

    async with visiting(asgi(redis_url, redact=redact), headers=HERE) as visitor:
        more = await fill(redis_url, command)
        _, text = await look_everywhere(visitor, more)
        assert fields_in(text) & WITHHELD == set()
        for name in ("argument", "error message", "tag", "step"):
            said = (await visitor.get(f"/search?q={quote(evil(name)[:4])}")).text
            assert re.search(r"No match|Nothing|0 match", said), name


async def test_what_is_asked_before_a_button_obeys_nothing(
    visitor: httpx.AsyncClient, redis_url: str, command: Callable[..., Any]
):
    await fill(redis_url, command)
    for button, fields in (
        ("act", {"act": "delete", "in": f"queue:{evil('queue')}", "all": "1", "q": evil("query")}),
        ("act", {"act": evil("query"), "in": evil("query"), "all": "1"}),
        ("act", {"act": "delete", "pick": evil("query")}),
        ("purge", {"queue": evil("queue")}),
        ("pause", {"queue": evil("queue"), "class": evil("class")}),
        ("resume", {"queue": evil("queue")}),
        ("signal", {"identity": evil("identity"), "signal": evil("query")}),
        ("cancel", {"jid": evil("jid"), "process": evil("identity"), "then": evil("query")}),
        ("cron", {"name": evil("cron name"), "what": "delete"}),
        ("unlock", {"lock": evil("query")}),
        ("cancel-batch", {"batch": evil("query")}),
        ("limit", {"name": evil("limit"), "what": "close"}),
        ("undo", {"id": evil("query")}),
        ("skip", {"target": evil("shard"), "entry": evil("outbox entry")[:24]}),
        (quote(MARKUP), {}),
    ):
        answer = await visitor.post(f"/do/{button}", data={"back": f"/dead?q={quote(MARKUP)}", **fields})
        if answer.status_code == 303:
            answer = await visitor.get(answer.headers["location"])
        check(answer.text, f"/do/{button}")
        assert "our own mistake" not in answer.text, button
