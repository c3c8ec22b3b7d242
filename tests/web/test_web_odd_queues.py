"""Queues whose names hold what isn't seen, or means something in an address or in a page: their pages and buttons are theirs, as a browser sends them."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from visiting import payload

NAMES = [
    *(
        "low prio",
        "über",
        "a/b",
        "a?b#c",
        "%2F",
        "..",
        "😀",
        "x" * 300,
        "__proto__",
        "<b>",
        "a&b=c+d",
        "'\"",
        " ",
        "a:b",
    ),
    *("\u202ea", "a\u200bb"),
]
UNSENDABLE = ["a\nb", "a\r\nb", "\x1b[1m", "\x00"]
"""Nothing of ours sends to them, so that pausing them is refused; others may have."""


def forms_on(page: str, path: str) -> list[tuple[str, dict[str, str]]]:
    """Where each form for this leads, and what a browser would send with it."""
    found = []
    for action, body in re.findall(r'<form method="post" action="([^"]*)"[^>]*>(.*?)</form>', page, re.DOTALL):
        if html.unescape(action).partition("?")[0] == path and ("queue" in action or 'name="queue"' in body):
            fields = re.findall(r'name="([^"]*)" value="([^"]*)"', body)
            sent = {name: re.sub(r"\r\n|\r|\n", "\r\n", html.unescape(value)) for name, value in fields}
            found.append((html.unescape(action), sent))
    return found


async def press(visitor: httpx.AsyncClient, page: str, path: str) -> str:
    ((action, fields),) = forms_on(page, path)
    done = await visitor.post(action, data=fields)
    return done.text if done.status_code != 303 else (await visitor.get(done.headers["location"])).text


@pytest.mark.parametrize("name", [*NAMES, *UNSENDABLE], ids=ascii)
async def test_buttons_of_a_queue_are_its_own(visitor: httpx.AsyncClient, command: Callable[..., Any], name: str):
    command("SADD", "queues", name)
    command("LPUSH", f"queue:{name}", *(payload(number, queue=name) for number in range(3)))
    (link,) = set(re.findall(r'href="(/queue\?name=[^"]*)"', (await visitor.get("/queues")).text))
    for page in ("/queues", html.unescape(link)):
        said = await press(visitor, (await visitor.get(page)).text, "/do/pause")
        assert command("SMEMBERS", "paused") == ([] if name in UNSENDABLE else [name])
        if name in UNSENDABLE:
            assert "control character" in said
            continue
        await press(visitor, (await visitor.get(page)).text, "/do/resume")
        assert command("SMEMBERS", "paused") == []
    asked = await press(visitor, (await visitor.get(html.unescape(link))).text, "/do/purge")
    assert "3 jobs" in asked
    assert command("LLEN", f"queue:{name}") == 3
    assert "3 jobs" in await press(visitor, asked, "/do/purge")
    assert command("EXISTS", f"queue:{name}") == 0
