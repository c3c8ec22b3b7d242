"""Makes the pictures of docs/dashboard.md anew: a Redis with a shop's jobs, a worker, the dashboard, chromium. `make pictures`."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from playwright.sync_api import Browser, sync_playwright  # noqa: E402
from servers import Server, free_port, start_worker, wait_for  # noqa: E402
from visiting import reachable  # noqa: E402

PICTURES = (
    ("dashboard-overview", "/", 1200, "light"),
    ("dashboard-dead", "/dead", 1200, "dark"),
    ("dashboard-job", "/busy", 1200, "light"),
    ("dashboard-phone", "/", 390, "light"),
)
ERRORS = (
    ("httpx.ReadTimeout", "no answer from crm.example.com within 30 s"),
    ("trioworkers.BadArguments", "SyncCustomerJob: customer_id is a whole number, not 'seven'"),
    ("HTTPStatusError", "503 Service Unavailable from crm.example.com"),
)
CLASSES = ("SyncCustomerJob", "SendInvoiceJob", "TrackUserJob")


def job(chance: random.Random, queue: str, job_class: str, **fields: Any) -> str:
    now_s = time.time()
    values = {"class": job_class, "args": [chance.randrange(90_000)], "queue": queue, "retry": True}
    times = {"created_at": now_s - 90, "enqueued_at": now_s - chance.uniform(5, 60)}
    return json.dumps({**values, "jid": f"{chance.getrandbits(96):024x}", **times, **fields})


def fill(server: Server) -> None:
    """The same jobs each time."""
    chance, now_s = random.Random(7), time.time()
    with server.session() as command:
        for queue, size in (("critical", 3), ("default", 421), ("invoices", 96), ("mail", 38)):
            command("SADD", "queues", queue)
            command("LPUSH", f"queue:{queue}", *(job(chance, queue, chance.choice(CLASSES)) for _ in range(size)))
        command("SADD", "paused", "invoices")
        for key, ahead_s, count in (("retry", 40, 17), ("dead", -900, 23), ("schedule", 600, 54)):
            for number in range(count):
                name, message = chance.choice(ERRORS)
                failure = {"error_class": name, "error_message": message, "retry_count": chance.randrange(1, 9)}
                fields = {} if key == "schedule" else {**failure, "failed_at": now_s - 4000, "retried_at": now_s - 300}
                command(
                    "ZADD",
                    key,
                    now_s + ahead_s * (number + 1),
                    job(chance, "default", chance.choice(CLASSES), **fields),
                )
        for back in range(70):
            at = time.gmtime(now_s - 60 * back)
            key = f"j|{time.strftime('%y%m%d', at)}|{at.tm_hour}:{at.tm_min:02}"
            failed = chance.choice((0, 0, 0, 0, 6, 25))
            command(
                "HSET", key, "TrackUserJob|p", int(500 + 220 * chance.random() + 3 * back), "TrackUserJob|f", failed
            )
        for back in range(90):
            minute = int(now_s // 60) - back
            late_s = int(20 + 400 * max(0.0, 1 - abs(back - 25) / 15) + chance.randrange(9))
            command(
                "HSET",
                f"tw:history:{minute // 60}",
                minute % 60,
                f"{480 + 3 * late_s // 4 + chance.randrange(40)} {late_s}",
            )
        today = time.strftime("%Y-%m-%d", time.gmtime(now_s))
        for name, count in (("processed", 48_213), ("failed", 327)):
            command("SET", f"stat:{name}", 40 * count)
            command("SET", f"stat:{name}:{today}", count)
        command("SADD", "queues", "work")
        command("LPUSH", "queue:work", *(job(chance, "work", "ReportJob", args=[900]) for _ in range(3)))


def take(browser: Browser, root: str) -> None:
    for name, path, width, scheme in PICTURES:
        options: dict[str, Any] = {"color_scheme": scheme, "viewport": {"width": width, "height": 760}}
        page = browser.new_context(**options).new_page()
        page.goto(root + path)
        if path == "/busy":
            page.locator("a.jid").first.click()
            page.get_by_role("heading", name="Where it awaits").wait_for()
        page.wait_for_load_state("networkidle")
        page.screenshot(path=ROOT / "docs" / f"{name}.png")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder)).start()
        worker = None
        try:
            fill(server)
            port = free_port()
            shop = Path(folder) / "shop"  # what is drawn is nobody's own directory
            shop.mkdir()
            shutil.copy(ROOT / "tests/web/day_app.py", shop / "shop_app.py")
            path = os.pathsep.join([str(ROOT), str(shop)])
            options = ("--process-id", "worker-1", "--web", f"127.0.0.1:{port}")
            worker = start_worker(Path(folder), server.url, "shop_app:app", *options, PYTHONPATH=path).wait_started()
            root = f"http://127.0.0.1:{port}"
            wait_for(lambda: reachable(root), "the dashboard is there")
            wait_for(lambda: server.command("KEYS", "*:work"), "a heartbeat tells what runs")
            with sync_playwright() as driver:
                browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
                take(browser, root)
                browser.close()
        finally:
            if worker is not None:
                worker.kill()
            server.kill()
    if shutil.which("pngquant"):
        names = [str(ROOT / "docs" / f"{name}.png") for name, *_ in PICTURES]
        subprocess.run(["pngquant", "--force", "--ext", ".png", *names], check=True)


if __name__ == "__main__":
    main()
