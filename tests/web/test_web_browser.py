"""In a real browser: a person's day from start to finish, without an error on the console, on a phone and in the dark; and what axe says of each page.

Needs Debian's chromium; axe comes with the interop tests' packages.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from servers import ROOT, Server, Worker, free_port, wait_for
from visiting import PAGES, failed, payload, reachable

from trioworkers import Batch, Client, Job
from trioworkers.web.serving import Serving

CHROMIUM = shutil.which("chromium")
AXE = ROOT / "tests/interop/node/node_modules/axe-core/axe.min.js"
REQUIRED = bool(os.environ.get("TRIOWORKERS_REQUIRE_INTEROP"))

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(CHROMIUM is None and not REQUIRED, reason="chromium is not installed"),
    pytest.mark.xdist_group("chromium"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
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
        process.wait()
    assert "Traceback" not in log.read_text()


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


def test_a_persons_day(
    open_page: Callable[..., Any], dashboard: str, server: Server, run_worker: Callable[..., Worker], tmp_path: Path
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

    page = open_page()
    page.goto(dashboard)
    # A failure is seen, and its kind is found.
    page.get_by_role("navigation").get_by_role("link", name="Retries").click()
    page.get_by_role("link", name="show these: ImportJob with").click()
    assert "30 jobs" in page.content() or "25 matches" in page.get_by_role("status").first.inner_text()
    # One of them is looked at.
    page.locator("a.jid").first.click()
    page.get_by_role("heading", name="ImportJob").wait_for()
    assert "no answer from <partner>" in page.locator("main").inner_text()
    assert "day_app.py" in page.locator("main").inner_text()
    page.get_by_role("link", name="All of this kind").click()
    # The partner is back: all of the kind are retried, and nothing else.
    flag.touch()
    page.get_by_role("button", name="Retry all …").click()
    assert "30 jobs of 31" in page.locator("main").inner_text()
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
    page.get_by_role("button", name="Cancel and bury").click()
    page.get_by_text("cancelled on w1; it is in the dead set").wait_for()
    # A queue is paused, and goes on.
    page.get_by_role("navigation").get_by_role("link", name="Queues").click()
    page.get_by_role("button", name="Pause").first.click()
    page.get_by_text("work: paused").wait_for()
    assert server.command("SMEMBERS", "paused") == ["work"]
    page.get_by_role("button", name="Resume").first.click()
    page.get_by_text("work: resumed").wait_for()
    # What comes in the night is run by day.
    page.get_by_role("navigation").get_by_role("link", name="Cron").click()
    page.get_by_role("button", name="Run now").click()
    page.get_by_text("work/NightlyJob: job").wait_for()
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


def test_pages_can_be_used_by_everybody(open_page: Callable[..., Any], dashboard: str, server: Server):
    """axe has no complaint, in light and dark; and nothing has to be scrolled sideways on a phone."""
    if not AXE.exists():
        assert not REQUIRED
        pytest.skip("axe-core is not installed: npm ci --prefix tests/interop/node")
    fill(server)
    pages = (*PAGES, f"/job?jid={3:024x}", *fill_besides(server))
    source = AXE.read_text()
    for scheme in ("light", "dark"):
        page = open_page(scheme=scheme)
        for path in pages:
            page.goto(dashboard + path)
            page.evaluate(source)
            found = page.evaluate("axe.run({resultTypes: ['violations']})")
            complaints = [
                (each["id"], [node["html"][:150] for node in each["nodes"][:3]]) for each in found["violations"]
            ]
            assert complaints == [], (scheme, path)
    phone = open_page(390)
    for path in pages:
        phone.goto(dashboard + path)
        assert phone.evaluate("document.documentElement.scrollWidth") <= 390, path


def test_pages_of_shards_can_be_used_by_everybody(
    dashboard_of_shards: str, open_page: Callable[..., Any], server: Server
):
    """As above, of several Redises, one of which is away; and a button acts in its own. (Asked for first, they are there until the pages are closed.)"""
    if not AXE.exists():
        assert not REQUIRED
        pytest.skip("axe-core is not installed: npm ci --prefix tests/interop/node")
    for space, numbers in (("a:", range(3)), ("", range(3, 7))):
        for number in numbers:
            server.command("LPUSH", f"{space}queue:default", payload(number))
            server.command("ZADD", f"{space}dead", number, failed(number + 10))
        server.command("SADD", f"{space}queues", "default")
    source = AXE.read_text()
    for width, scheme in ((1200, "light"), (390, "dark")):
        page = open_page(width, scheme)
        for path in ("/", "/queues", "/dead", "/search?q=x"):
            page.goto(dashboard_of_shards + path)
            page.evaluate(source)
            found = page.evaluate("axe.run({resultTypes: ['violations']})")
            complaints = [
                (each["id"], [node["html"][:150] for node in each["nodes"][:3]]) for each in found["violations"]
            ]
            assert complaints == [], (scheme, path)
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
