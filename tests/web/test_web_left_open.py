"""Pages that stay open for long in a real browser, whose clock is set on: Redis away, a worker restarted or frozen behind it, a machine that sleeps for a week."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from servers import Server, Worker, free_port, wait_for
from visiting import reachable

REQUIRED = bool(os.environ.get("TRIOWORKERS_REQUIRE_INTEROP"))

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(shutil.which("chromium") is None and not REQUIRED, reason="chromium is not installed"),
]

STEP_S = 6
"""A page gives up a look after ten."""


class Open:
    """One open page. `asked`: how often it was asked for since."""

    def __init__(self, context: Any, url: str) -> None:
        self.page = context.new_page()
        self.page.clock.install()
        self.page.clock.pause_at(time.time() + 3600)  # only we set it on: how long the test takes counts for nothing
        self.asked = 0
        self.page.on("request", self._count)
        self.page.goto(url)

    def _count(self, request: Any) -> None:
        self.asked += request.resource_type in ("fetch", "document")

    def passes(self, minutes: float) -> int:
        """So much time; what it asks meanwhile is answered, or refused. How often it asked."""
        before = self.asked
        for _ in range(int(minutes * 60 / STEP_S)):
            self.page.clock.run_for(STEP_S * 1000)
            self._answered()
        return self.asked - before

    def hangs(self, minutes: float) -> int:
        """So much time in which nothing comes for an answer."""
        before = self.asked
        for _ in range(int(minutes * 60 / STEP_S)):
            self.page.clock.run_for(STEP_S * 1000)
        return self.asked - before

    def sleeps(self, days: int) -> int:
        """The machine does: no timer is late more than once."""
        before = self.asked
        self.page.clock.fast_forward(days * 86_400_000)
        self._answered()
        return self.asked - before

    def _answered(self) -> None:
        wait_for(self._has_looked, "it has looked")

    def _has_looked(self) -> bool:
        try:
            # the script isn't there yet while the page is loaded anew
            return bool(self.page.evaluate("typeof looking !== 'undefined' && !looking"))
        except Exception as error:
            if "Execution context was destroyed" not in str(error):
                raise
            return False  # it loads itself anew just now

    def shows(self, text: str) -> None:
        def shown() -> bool:
            self.passes(0.2)
            return bool(self.page.get_by_text(text).first.is_visible())

        wait_for(shown, lambda: f"{text!r} is on the page: {self.page.inner_text('main')}")

    def is_up_to_date(self) -> None:
        def is_so() -> bool:
            self.passes(0.2)
            return bool(self.page.locator("#live-note").is_hidden())

        wait_for(is_so, "it is up to date")


@pytest.fixture
def open_at(browser: Any) -> Iterator[Callable[[str], Open]]:
    context = browser.new_context()
    context.set_default_timeout(60_000)
    yield lambda url: Open(context, url)
    context.close()


def test_a_page_left_open_for_a_week(work: Callable[..., Worker], server: Server, open_at: Callable[[str], Open]):
    port = free_port()
    url = f"http://127.0.0.1:{port}"

    def start(name: str) -> Worker:
        worker = work(name, "--web", f"127.0.0.1:{port}").wait_started()
        wait_for(lambda: reachable(url), "the page is there")
        return worker

    worker = start("w1")
    left = open_at(f"{url}/processes")
    left.shows("Machines")
    nodes = left.page.evaluate("document.querySelectorAll('*').length")

    server.kill()
    left.shows("Not up to date")  # for a moment it is shown what was known
    assert 20 <= left.passes(30) <= 40  # once a minute, and those of the first minutes
    assert left.page.get_by_text("Not up to date").is_visible()
    refused = open_at(f"{url}/queues")  # opened meanwhile: it says why, and tries again
    assert refused.page.get_by_text("The page tries again by itself").is_visible()
    assert refused.passes(5) <= 30
    worker.kill()  # who loaded anew now would end at the browser's own page, for good
    assert refused.passes(5) <= 30
    assert left.passes(5) <= 30

    server.start()
    worker = start("w2")
    left.is_up_to_date()
    left.shows("w2")
    refused.passes(1.5)
    refused.page.get_by_role("heading", name="Queues", exact=True).wait_for()

    worker.signal(signal.SIGSTOP)  # connections are taken, and nobody answers
    assert left.hangs(5) <= 30
    assert left.page.get_by_text("Not up to date").is_visible()
    worker.signal(signal.SIGCONT)
    left.is_up_to_date()
    assert left.sleeps(7) <= 2
    left.is_up_to_date()
    assert left.page.evaluate("document.querySelectorAll('*').length") < nodes + 50


def test_parts_that_come_and_go_do_so_on_an_open_page(open_page: Callable[..., Any], dashboard: str, server: Server):
    page = open_page()
    page.goto(f"{dashboard}/processes")
    text = page.content()
    parts = "[...document.querySelectorAll('[data-part]')].map(each => each.id)"
    before = page.evaluate(parts)
    page.evaluate("document.body.dataset.live = 0.05")
    more = text.replace("</main>", '<section id="last" data-part>x</section></main>').replace(
        f'<section id="{before[0]}"', f'<section id="first" data-part>x</section><section id="{before[0]}"'
    )
    answers = [more]
    page.route("**/processes", lambda route: route.fulfill(status=200, content_type="text/html", body=answers[0]))
    page.locator("#last").wait_for()
    assert page.evaluate(parts) == ["first", *before, "last"]
    answers[:] = [text]
    page.locator("#last").wait_for(state="detached")
    assert page.evaluate(parts) == before
    answers[:] = [more]
    page.locator("#last").wait_for()
    assert page.evaluate(parts) == ["first", *before, "last"]
