"""How fast the dashboard's pages are with a million jobs waiting, and what open tabs and a scrape cost Redis. `make bench-dashboard`; figures to docs/dashboard.md by hand.

The first byte, the whole page, and how large it is: the median of `ROUNDS`, over one connection, of a dashboard in a process of its own.
"""

from __future__ import annotations

import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from servers import ROOT, Server, free_port, wait_for
from visiting import PAGES, reachable

WAITING, DEAD, RETRIES = 1_000_000, 10_000, 10_000
ROUNDS = 7
TABS, SECONDS = 10, 15


def fill(server: Server) -> None:
    now_s = time.time()

    def job(number: int, **fields: object) -> str:
        payload = {"class": "SyncJob", "args": [number], "queue": "default", "retry": True, "jid": f"{number:024x}"}
        return json.dumps({**payload, "created_at": now_s, "enqueued_at": now_s, **fields})

    with server.session() as command:
        command("SADD", "queues", "default")
        for start in range(0, WAITING, 5000):
            command("LPUSH", "queue:default", *(job(number) for number in range(start, start + 5000)))
        for minute in range(int(now_s // 60) - 3 * 1440, int(now_s // 60)):
            command("HSET", f"tw:history:{minute // 60}", minute % 60, f"{minute % 9999} {minute % 777}")
        failure = {"error_class": "ValueError", "error_message": "no answer", "retry_count": 3, "failed_at": now_s}
        for key, count in (("dead", DEAD), ("retry", RETRIES)):
            for start in range(0, count, 1000):
                numbers = range(start, start + 1000)
                command("ZADD", key, *(word for n in numbers for word in (now_s + n, job(n, **failure))))


def ask(port: int, path: str) -> tuple[float, float, int]:
    """Milliseconds to the first byte and to the last, and bytes."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    started = time.perf_counter()
    connection.request("GET", path, headers={"host": "localhost"})
    reply = connection.getresponse()
    first = reply.read(1)
    first_ms = (time.perf_counter() - started) * 1000
    size = len(first) + len(reply.read())
    last_ms = (time.perf_counter() - started) * 1000
    connection.close()
    return first_ms, last_ms, size


def of_redis(server: Server) -> tuple[int, int]:
    """Commands and bytes so far."""
    text = str(server.command("INFO", "stats"))

    def figure(name: str) -> int:
        return int(text.partition(f"{name}:")[2].split()[0])

    return figure("total_commands_processed"), figure("total_net_output_bytes") + figure("total_net_input_bytes")


def tabs(server: Server, port: int) -> None:
    """`TABS` open first pages that ask every three seconds, and a scrape every five."""
    before, asked_at = of_redis(server), time.monotonic()
    for second in range(SECONDS):
        if second % 3 == 0:
            for _ in range(TABS):
                ask(port, "/")
        if second % 5 == 0:
            ask(port, "/metrics")
        time.sleep(max(0.0, asked_at + second + 1 - time.monotonic()))
    after, took_s = of_redis(server), time.monotonic() - asked_at
    commands, size = ((b - a) / took_s for a, b in zip(before, after, strict=True))
    print(f"\n{TABS} tabs and a scrape every 5 s: {commands:.0f} commands and {size / 1000:.1f} KB a second at Redis")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder)).start("--appendonly", "no")
        port = free_port()
        command = [sys.executable, "-m", "trioworkers", "web", "--redis", server.url, "--bind", f"127.0.0.1:{port}"]
        process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL)
        try:
            fill(server)
            wait_for(lambda: reachable(f"http://127.0.0.1:{port}/"), "it is there")
            print(f"{'page':32}{'first byte':>12}{'whole':>12}{'size':>10}")
            for path in (
                *PAGES,
                "/dead?q=nothing",
                f"/job?jid={WAITING - 7:024x}",
                "/rates.svg?span=three-days",
                "/waiting.svg?span=three-days",
                "/metrics",
            ):
                found = []
                for _ in range(ROUNDS):
                    found.append(ask(port, path))
                    time.sleep(1.05)  # what is asked once a second is asked anew
                first_ms, last_ms, size = (statistics.median(each) for each in zip(*found, strict=True))
                print(f"{path:32}{first_ms:9.1f} ms{last_ms:9.1f} ms{size / 1000:7.1f} KB", flush=True)
            tabs(server, port)
        finally:
            process.terminate()
            process.wait()
            server.kill()


if __name__ == "__main__":
    main()
