"""In a real browser: a person's day from start to finish, in the dark and on a phone, too, without an error on the console; and what axe says of each page.

Needs Debian's chromium; axe comes with the interop tests' packages.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from servers import ROOT, Server, Worker, wait_for
from visiting import PAGES, failed, payload

from trioworkers import Batch, Client, Job

CHROMIUM = shutil.which("chromium")
AXE = ROOT / "tests/interop/node/node_modules/axe-core/axe.min.js"
REQUIRED = bool(os.environ.get("TRIOWORKERS_REQUIRE_INTEROP"))

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(CHROMIUM is None and not REQUIRED, reason="chromium is not installed"),
]


@pytest.fixture(scope="module")
def axe() -> str:
    if not AXE.exists():
        assert not REQUIRED
        pytest.skip("axe-core is not installed: npm ci --prefix tests/interop/node")
    return AXE.read_text()


@pytest.fixture
def complaints(axe: str) -> Callable[[Any], list[Any]]:
    """What axe says of a page."""

    def complaints(page: Any) -> list[Any]:
        page.evaluate(axe)
        found = page.evaluate("axe.run({resultTypes: ['violations']})")
        return [(each["id"], [node["html"][:150] for node in each["nodes"][:3]]) for each in found["violations"]]

    return complaints


@pytest.fixture
def look(complaints: Callable[[Any], list[Any]]) -> Callable[[Any], None]:
    """See that the page as it is now can be used in light, in the dark and on a phone; nothing is fetched anew for that."""

    def look(page: Any) -> None:
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert complaints(page) == [], (scheme, page.url)
        page.set_viewport_size({"width": 390, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, page.url
        page.set_viewport_size({"width": 1200, "height": 800})

    return look


def test_a_persons_day(
    open_page: Callable[..., Any],
    dashboard: str,
    server: Server,
    run_worker: Callable[..., Worker],
    tmp_path: Path,
    look: Callable[[Any], None],
):
    flag = tmp_path / "partner-is-back"
    worker = run_worker(
        server.url,
        "day_app:app",
        "--process-id",
        "w1",
        PYTHONPATH=os.pathsep.join([str(ROOT), str(ROOT / "tests/web")]),
    )
    worker.wait_started()
    server.command("SADD", "queues", "work")
    jobs = [
        payload(number, **{"class": "ImportJob", "args": [str(flag)], "queue": "work", "backtrace": True})
        for number in range(30)
    ]
    server.command("LPUSH", "queue:work", *jobs, payload(99, **{"class": "ReportJob", "args": [600], "queue": "work"}))
    server.command("ZADD", "retry", time.time() + 900, failed(77, **{"class": "OtherJob"}))
    wait_for(lambda: server.command("ZCARD", "retry") == 31, "they fail")
    retries: Any = server.command("ZRANGE", "retry", 0, -1)
    for each in retries:  # a person on a busy machine may need longer than the first of them wait
        server.command("ZADD", "retry", time.time() + 3600, each)

    page = open_page()
    page.goto(dashboard)
    # A failure is seen, and its kind is found.
    page.get_by_role("navigation").get_by_role("link", name="Retries").click()
    page.get_by_role("link", name="show these: ImportJob with").click()
    assert "30 jobs" in page.content() or "25 matches" in page.get_by_role("status").first.inner_text()
    look(page)
    # One of them is looked at.
    page.locator("a.jid").first.click()
    page.get_by_role("heading", name="ImportJob").wait_for()
    assert "no answer from <partner>" in page.locator("main").inner_text()
    assert "day_app.py" in page.locator("main").inner_text()
    look(page)
    page.get_by_role("link", name="All of this kind").click()
    # The partner is back: all of the kind are retried, and nothing else.
    flag.touch()
    page.get_by_role("button", name="Retry all …").click()
    assert "30 jobs of 31" in page.locator("main").inner_text()
    look(page)
    page.get_by_role("button", name="Yes, retry").click()
    page.get_by_text("30 jobs of the retry set sent to be retried").wait_for()
    wait_for(lambda: server.command("ZCARD", "retry") == 1, "they are done")
    # What has run for too long is cancelled, where it awaits is seen first.
    wait_for(
        lambda: "ReportJob" in str(server.command("HVALS", next(iter(work_keys(server))))), "a heartbeat tells of it"
    )
    page.get_by_role("navigation").get_by_role("link", name="Busy").click()
    page.locator("a.jid").first.click()
    page.get_by_role("heading", name="Where it awaits").wait_for()
    assert "open_nursery" in page.locator("main").inner_text()
    look(page)
    page.get_by_role("button", name="Cancel and bury").click()
    page.get_by_text("cancelled on w1; it is in the dead set").wait_for()
    look(page)
    # A queue is paused, and goes on.
    page.get_by_role("navigation").get_by_role("link", name="Queues").click()
    page.get_by_role("button", name="Pause").first.click()
    page.get_by_text("work: paused").wait_for()
    look(page)
    assert server.command("SMEMBERS", "paused") == ["work"]
    page.get_by_role("button", name="Resume").first.click()
    page.get_by_text("work: resumed").wait_for()
    # What comes in the night is run by day.
    page.get_by_role("navigation").get_by_role("link", name="Cron").click()
    page.get_by_role("button", name="Run now").click()
    page.get_by_text("work/NightlyJob: job").wait_for()
    look(page)
    # What is dead is deleted, by keyboard; and put back.
    page.get_by_role("navigation").get_by_role("link", name="Dead").click()
    page.locator('input[name="pick"]').first.focus()
    page.keyboard.press("Space")
    page.get_by_role("button", name="Delete", exact=True).focus()
    page.keyboard.press("Enter")
    page.get_by_text("1 job deleted").wait_for()
    page.get_by_role("button", name="Undo").click()
    page.get_by_text("1 job back in the dead set").wait_for()
    page.get_by_role("navigation").get_by_role("link", name="Done here").click()
    assert page.locator(".finding").count() == 7
    # The worker is told to stop.
    page.get_by_role("navigation").get_by_role("link", name="Processes").click()
    page.get_by_role("button", name="Stop").first.click()
    page.get_by_text("told to stop").wait_for()
    assert worker.ended() == 0


def work_keys(server: Server) -> list[str]:
    found = server.command("KEYS", "*:*:*:work")  # and not the queue of that name
    assert isinstance(found, list)
    return found or ["none"]


def fill(server: Server) -> None:
    server.command("SADD", "queues", "default", "mail", "עברית")
    server.command("LPUSH", "queue:default", *(payload(number, tags=["vip"]) for number in range(30)))
    server.command("SADD", "paused", "mail")
    for number in range(30):
        server.command("ZADD", "dead", number, failed(number, error_message="x" * 300))
        server.command("ZADD", "retry", time.time() + number, failed(number, **{"class": "Very" * 30}))
        server.command("ZADD", "schedule", time.time() + 60 * number, payload(number, args=["y" * 500]))
    info = json.dumps(
        {"hostname": "h", "tag": "w1", "queues": ["default"], "labels": [], "version": "8.0", "concurrency": 5}
    )
    server.command("SADD", "processes", "h:1:x")
    server.command("HSET", "h:1:x", "info", info, "busy", 1, "beat", time.time(), "quiet", "false")
    work = json.dumps({"queue": "default", "payload": payload(3), "run_at": time.time()})
    server.command("HSET", "h:1:x:work", "t1", work)


def fill_besides(server: Server) -> tuple[str, ...]:
    """Pages of a job with all that can be known besides its payload, of one that is over, and of a batch with a graph."""
    jid = f"{7:024x}"
    record = {"steps": {"charge": "receipt"}, "at": {"rows": [9]}}
    server.command("ZADD", "dead", 99, failed(7, tw_record=record))
    for each in (jid, "over"):
        server.command("SET", f"tw:log:{each}", json.dumps([[1.0, "INFO", "a line " * 30]] * 20))
        server.command("SET", f"tw:progress:{each}", json.dumps({"at": 3, "total": 4, "message": "on its way"}))
    batch = Batch("order 7")
    first = batch.add(Job("q", "Charge", runs_here=True))
    batch.add(*(Job("q", "Ship" * 20, runs_here=True) for _ in range(20)), after=[first])

    async def send() -> None:
        async with Client(server.url) as client:
            await client.enqueue(batch)

    trio.run(send)
    return f"/job?jid={jid}", "/job?jid=over", f"/batch?id={batch.id}"


def test_pages_can_be_used_by_everybody(
    open_page: Callable[..., Any], dashboard: str, server: Server, look: Callable[[Any], None]
):
    """axe has no complaint, in light and dark; and nothing has to be scrolled sideways on a phone."""
    fill(server)
    page = open_page()
    for path in (*PAGES, f"/job?jid={3:024x}", *fill_besides(server)):
        page.goto(dashboard + path)
        look(page)


def test_pages_of_shards_can_be_used_by_everybody(
    dashboard_of_shards: str, open_page: Callable[..., Any], server: Server, complaints: Callable[[Any], list[Any]]
):
    """As above, of several Redises, one of which is away; and a button acts in its own. (Asked for first, they are there until the pages are closed.)"""
    for space, numbers in (("a:", range(3)), ("", range(3, 7))):
        for number in numbers:
            server.command("LPUSH", f"{space}queue:default", payload(number))
            server.command("ZADD", f"{space}dead", number, failed(number + 10))
        server.command("SADD", f"{space}queues", "default")
    for width, scheme in ((1200, "light"), (390, "dark")):
        page = open_page(width, scheme)
        for path in ("/", "/queues", "/queue?name=default", "/processes", "/dead", "/search?q=x"):
            page.goto(dashboard_of_shards + path)
            assert complaints(page) == [], (scheme, path)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, path
    page = open_page()
    page.goto(f"{dashboard_of_shards}/dead")
    part = page.get_by_role("region", name="shard 'b'")
    part.get_by_label("Tick all of this page").check()
    part.get_by_role("button", name="Requeue", exact=True).click()
    page.get_by_text("4 jobs requeued").wait_for()
    assert server.command("LLEN", "queue:default") == 8
    assert server.command("ZCARD", "a:dead") == 3
    page.get_by_role("navigation", name="Shards").get_by_role("link", name="shard 'a'").click()
    page.get_by_text("3 jobs").first.wait_for()
