"""How browsers get along with the pages: old ones, without script, open for long, on somebody else's page.

Needs Debian's chromium; acorn comes with the interop tests' packages.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from servers import ROOT, Server
from visiting import failed, payload

CHROMIUM = shutil.which("chromium")
AXE = ROOT / "tests/interop/node/node_modules/axe-core/axe.min.js"
REQUIRED = bool(os.environ.get("TRIOWORKERS_REQUIRE_INTEROP"))

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(CHROMIUM is None and not REQUIRED, reason="chromium is not installed"),
]


def test_a_browser_without_fetch_shows_pages_and_presses_buttons(
    open_page: Callable[..., Any], dashboard: str, server: Server
):
    """What was new after 2017, and fetch itself, is taken away before our script runs."""
    server.command("ZADD", "dead", 1, failed(1))
    page = open_page()
    page.add_init_script(
        "for (const each of ['fetch', 'EventSource', 'AbortController', 'AbortSignal', 'structuredClone', 'queueMicrotask'])"
        " delete window[each]; delete Array.prototype.flat; delete Array.prototype.at; delete Object.fromEntries;"
    )
    page.goto(f"{dashboard}/queues")
    page.get_by_role("heading", name="Queues").wait_for()
    page.goto(f"{dashboard}/dead")
    page.get_by_label("Tick all of this page").check()
    page.get_by_role("button", name="Requeue", exact=True).click()
    page.get_by_text("1 job requeued").wait_for()
    assert server.command("LLEN", "queue:default") == 1


def test_what_pages_are_made_of_is_known_to_browsers_of_2017():
    node, acorn = shutil.which("node"), AXE.parents[1] / "acorn/dist/acorn.js"
    if node is None or not acorn.exists():
        assert not REQUIRED
        pytest.skip("acorn is not installed: npm ci --prefix tests/interop/node")
    static = ROOT / "trioworkers/web/static"
    parse = "require(process.argv[1]).parse(require('fs').readFileSync(process.argv[2], 'utf8'), {ecmaVersion: 2017})"
    subprocess.run([node, "-e", parse, str(acorn), str(static / "live.js")], check=True)
    newer = subprocess.run(
        [node, "-e", parse, str(acorn), "/dev/stdin"],
        input="try {} catch {}",
        text=True,
        check=False,
        stderr=subprocess.DEVNULL,
    )
    assert newer.returncode
    style = re.sub(r"/\*.*?\*/", "", (static / "style.css").read_text(), flags=re.DOTALL)
    style = style.replace(".looking:has(~ *) { display: none; }", "")  # where it isn't known a sentence stays
    assert not re.findall(r"&|:has\(|:is\(|:where\(|@layer|@container|@scope|oklch|color-mix|light-dark", style)
    depth = 0
    for brace in re.findall(r"@media[^{]*\{|[{}]", style):
        depth += -1 if brace == "}" else 1 if not brace.startswith("@") else 0
        depth = max(depth, 0)
        assert depth <= 1, "rules within rules"


def test_an_open_page_stays_up_to_date(open_page: Callable[..., Any], dashboard: str, server: Server, said: list[str]):
    page = open_page()
    page.goto(f"{dashboard}/queues")
    page.evaluate("document.body.dataset.live = 0.1")
    server.command("SADD", "queues", "fresh")
    server.command("LPUSH", "queue:fresh", payload(1))
    page.get_by_role("link", name="fresh").wait_for()
    # Redis goes and comes back: the page says that it is old, and then isn't.
    server.kill()
    page.get_by_text("Not up to date").wait_for(timeout=60_000)
    server.start()
    page.get_by_text("Not up to date").wait_for(state="hidden", timeout=60_000)
    said[:] = [text for text in said if "503" not in text]  # the browser's own words for it


LOOK = "document.dispatchEvent(new Event('visibilitychange'))"


def test_a_page_that_stays_open_outlives_its_server(open_page: Callable[..., Any], dashboard: str, said: list[str]):
    """Answered in turn by a server that logs it out, one of another version, a proxy of somebody's, one that knows the page no more, and ours again."""
    answers: list[dict[str, Any]] = []
    page = open_page()
    page.goto(f"{dashboard}/queues")
    text = page.content()
    page.evaluate("document.body.dataset.live = 0.02")

    def answer(route: Any) -> None:
        if answers and route.request.resource_type == "fetch":
            route.fulfill(**answers[0])
        else:
            route.continue_()

    page.route("**/queues", answer)
    html = {"content_type": "text/html"}
    for how, what in (
        ({"status": 401, "body": "who are you?"}, "Load this page anew to log in"),
        ({"status": 404, "body": text, **html}, "can't be fetched again"),
        ({"status": 200, "body": "<p>Sign in", **html}, "can't be fetched again"),
        ({"status": 200, "body": re.sub('data-version="[^"]*"', 'data-version="new"', text), **html}, "a new version"),
    ):
        answers[:] = [how]
        page.evaluate(LOOK)
        page.locator("#live-note", has_text=what).wait_for()
        assert page.locator("#queues").count() == 1, "what it showed stays"
    # What is no longer on the page goes; what it doesn't know yet is no trouble.
    answers[:] = [{"status": 200, "body": text.replace('id="paused-classes"', 'id="unheard-of"'), **html}]
    page.evaluate(LOOK)
    page.locator("#paused-classes").wait_for(state="detached")
    page.locator("#live-note").wait_for(state="hidden")
    # A minute later another version is loaded: but not while somebody types.
    page.evaluate(
        "document.body.appendChild(document.createElement('textarea')).focus(); performance.now = () => 61000"
    )
    answers[:] = [{"status": 200, "body": re.sub('data-version="[^"]*"', 'data-version="new"', text), **html}]
    page.evaluate(LOOK)
    page.locator("#live-note", has_text="a new version").wait_for()
    with page.expect_navigation():
        page.evaluate("document.querySelector('textarea').remove()")
    said[:] = [text for text in said if "status of 4" not in text]


def test_without_javascript_all_but_live_updates_work(open_page: Callable[..., Any], dashboard: str, server: Server):
    server.command("ZADD", "dead", 1, failed(1))
    page = open_page(java_script_enabled=False)
    page.goto(f"{dashboard}/dead")
    page.locator('input[name="pick"]').check()
    page.get_by_role("button", name="Requeue", exact=True).click()
    page.get_by_text("1 job requeued").wait_for()
    assert server.command("LLEN", "queue:default") == 1


def test_another_sites_page_can_do_nothing(
    open_page: Callable[..., Any], dashboard: str, server: Server, tmp_path: Path, said: list[str]
):
    """A real browser on somebody else's page: its form is refused, its frame stays empty."""
    evil = tmp_path / "evil.html"
    evil.write_text(
        f'<form method="post" action="{dashboard}/do/pause"><input name="queue" value="q"><button>win</button></form>'
    )
    page = open_page()
    page.goto(evil.as_uri())
    with page.expect_navigation():
        page.get_by_role("button", name="win").click()
    assert "came from another site" in page.content()
    assert server.command("SMEMBERS", "paused") == []
    said[:] = [text for text in said if "403" not in text]
