"""The Python of our pages runs, in its order, with what each page takes for granted; and does what the page says.

What a page doesn't define itself (your handlers, your database) is in `given/PAGE.py`. A page's blocks share one namespace. What awaits nothing is
run first; what awaits runs then, in the app of the page: in the test kit, or (`REAL`) with a real Redis. `check(names)` looks at what came of it.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import linecache
import runpy
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from pages import PAGES, WHOLE, Block, blocks
from servers import Server

from trioworkers import Client, testing

GIVEN = Path(__file__).parent / "given"
AWAITED = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
Later = Callable[[], Awaitable[None]]


def fragments(page: str) -> list[Block]:
    """Its Python that is no program by itself."""
    found = [block for block in blocks(page) if block.language == "python" and block.why_not_run is None]
    return [] if page in WHOLE else [block for block in found if block.name is None]


@pytest.mark.parametrize("page", [page for page in PAGES if fragments(page)])
def test_python_of_the_page_runs_and_does_what_it_says(
    page: str, redis_url: str, shared_server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.chdir(tmp_path)
    given = GIVEN / page.replace("-", "_").replace(".md", ".py")
    names = runpy.run_path(str(given)) if given.exists() else {"__name__": "page"}
    awaiting = [later for block in fragments(page) if (later := begun(block, names)) is not None]
    if "asyncio" in names:
        for each in awaiting:
            asyncio.run(awaited(each))
    elif names.get("REAL"):
        trio.run(in_real_redis, names, awaiting)
    else:
        trio.run(in_the_kit, names, awaiting, clock=trio.testing.MockClock(autojump_threshold=0))
    if "check" in names:
        names["check"](names, shared_server)
    if not given.exists():  # the page says it all: an app that could be run
        names["app"].check()


def begun(block: Block, names: dict[str, Any]) -> Later | None:
    """Run it, unless it awaits: then it is for later."""
    text = "\n" * (block.line - 1) + block.text
    linecache.cache[str(block)] = (len(text), None, text.splitlines(keepends=True), str(block))
    code = compile(text, str(block), "exec", AWAITED, dont_inherit=True)
    if code.co_flags & inspect.CO_COROUTINE:
        return lambda: eval(code, names)
    exec(code, names)
    return None


async def awaited(later: Later) -> None:
    await later()


async def in_real_redis(names: dict[str, Any], awaiting: list[Later]) -> None:
    """With a client, if the page takes one for granted; the app's jobs run if they are waited for."""
    with trio.fail_after(60):
        async with Client() as client, trio.open_nursery() as nursery:
            names.setdefault("client", client)
            if names["REAL"] == "with a worker":
                await nursery.start(names["app"].serve)
            for each in awaiting:
                await each()
            if "during" in names:
                await names["during"](names)
            nursery.cancel_scope.cancel()


async def in_the_kit(names: dict[str, Any], awaiting: list[Later]) -> None:
    """On the virtual clock: `during(names, test)` adds to it what the page says in words."""
    if not awaiting and "during" not in names:
        return
    async with testing.run(names.get("FIRST") or names["app"], http=names.get("http")) as test:
        names.setdefault("client", test.client)
        for each in awaiting:
            await (names["inside"](names, each, test) if "inside" in names else each())
        if "during" in names:
            await names["during"](names, test)
        await test.drain(retries=True)
        assert [job.job_class for job in test.dead] == names.get("DEAD", [])
