"""A dashboard over a real Redis, asked as a browser asks it, without sockets."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from typing import Any

import httpx

from trioworkers.wire.places import all_places

HERE = {"sec-fetch-site": "same-origin"}


@asynccontextmanager
async def visiting(
    app: Any, host: str = "localhost", client: str = "127.0.0.1", **options: Any
) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, client=(client, 1))
    async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}", **options) as visitor:
        yield visitor


def payload(number: int = 0, **fields: Any) -> str:
    job = {"class": "SyncJob", "args": [number], "queue": "default", "retry": True, "jid": f"{number:024x}", **fields}
    return json.dumps({"created_at": time.time() - 60, "enqueued_at": time.time() - 60, **job})


def failed(number: int = 0, **fields: Any) -> str:
    error = {"error_class": "ValueError", "error_message": "no", "retry_count": 2, "failed_at": time.time() - 30}
    return payload(number, **{**error, **fields})


LISTS = tuple(f"/{place.command}" for place in all_places() if place.command)
PAGES = (
    "/",
    "/busy",
    "/queues",
    "/queue?name=default",
    *LISTS,
    "/search?q=sync",
    "/cron",
    "/finished",
    "/finished?class=SyncJob",
    "/batches",
    "/limits",
    "/limits?name=x",
    "/locks",
    "/processes",
    "/hosts",
    "/doctor",
    "/done",
)


def get(url: str, **fields: str) -> str:
    body = None if not fields else "&".join(f"{name}={value}" for name, value in fields.items()).encode()
    headers = {"sec-fetch-site": "same-origin", "content-type": "application/x-www-form-urlencoded"}
    with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=30) as reply:
        return str(reply.read().decode())


def reachable(url: str) -> bool:
    try:
        get(url)
    except OSError:
        return False
    return True


class _Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))


def harmless_text(text: str) -> None:
    tags = _Tags(text).tags
    assert [attributes.get("src") is not None for tag, attributes in tags if tag == "script"] == [True]
    assert all(
        str(attributes["src"]).startswith(("/rates.svg", "/waiting.svg")) for tag, attributes in tags if tag == "img"
    )
    assert not [name for _, attributes in tags for name in attributes if name.startswith("on") or name == "style"]
    assert not set(text) & {"\x1b", "\u202e", "\u200b", "\x00"}
