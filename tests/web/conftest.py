"""A dashboard over a real Redis: asked without sockets; or as a process, with a browser before it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from servers import ROOT, Server, free_port, wait_for
from visiting import HERE, reachable, visiting

from trioworkers.web import asgi
from trioworkers.web.serving import Serving


@pytest.fixture
async def visitor(redis_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with visiting(asgi(redis_url), headers=HERE) as found:
        yield found


@pytest.fixture
def command(shared_server: Server) -> Callable[..., Any]:
    return shared_server.command


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield found
        found.close()


@pytest.fixture
def dashboard(server: Server, tmp_path: Path) -> Iterator[str]:
    """`trioworkers web`, as a process; its address."""
    with served(tmp_path, "--redis", server.url) as found:
        yield found


@pytest.fixture
def dashboard_of_shards(server: Server, tmp_path: Path) -> Iterator[str]:
    """Of an App with three Redises, one of which isn't there."""
    path = tmp_path / "sharded_app.py"
    path.write_text(SHARDED.format(url=server.url, gone=f"redis://127.0.0.1:{free_port()}"))
    with served(tmp_path, str(path)) as found:
        yield found


SHARDED = """
from trioworkers import App, Shard

app = App(shards={{"a": Shard("{url}", namespace="a"), "b": Shard("{url}"), "gone": Shard("{gone}")}})
"""


@contextmanager
def served(tmp_path: Path, *which: str) -> Iterator[str]:
    probe = Serving("127.0.0.1:0").listen()
    address = f"127.0.0.1:{probe.getsockname()[1]}"
    probe.close()
    log = tmp_path / "web.log"
    command = [sys.executable, "-m", "trioworkers", "web", *which, "--bind", address]
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=sink, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        wait_for(lambda: reachable(f"http://{address}/"), lambda: f"it starts: {log.read_text()}")
        yield f"http://{address}"
    finally:
        process.terminate()
        status = process.wait()
    assert (status, "Traceback" in log.read_text()) == (0, False)


@pytest.fixture
def said() -> list[str]:
    """What the console said that it shouldn't."""
    return []


@pytest.fixture
def open_page(browser: Any, dashboard: str, said: list[str]) -> Iterator[Callable[..., Any]]:
    contexts = []

    def open_page(width: int = 1200, scheme: str = "light", **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, **options)
        context.set_default_timeout(20_000)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []
