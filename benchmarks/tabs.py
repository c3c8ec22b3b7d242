"""What open tabs and a scrape cost a worker that shows the dashboard, and its Redis. `make bench-tabs`; figures to docs/dashboard.md by hand.

Throughput with 500 tabs and without, in turn, so that what else the machine does meets both; then what ten tabs and a scrape ask of Redis, and take of the worker's CPU.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from servers import ROOT, Server, Worker, free_port, start_worker, wait_for
from visiting import reachable

from benchmarks.dashboard import of_redis

TABS, EVERY_S, SCRAPE_S = 500, 3.0, 5.0
SETTLE_S = 40.0
"""Of many tabs each is told to ask less often: that has settled by then."""
EVERY = re.compile(rb'data-live="(\d+)"')
JOBS, ROUNDS, IDLE_S = 40_000, 4, 10.0
APP = """
from trioworkers import App
app = App()
app.queue("q", concurrency=50)

@app.handler("q", "Nothing")
async def nothing() -> None: ...
"""


async def tab(port: int, wait_s: float) -> None:
    """Asks for the first page again and again over a connection that it keeps, as browsers do."""
    await trio.sleep(wait_s)
    stream: trio.SocketStream | None = None
    while True:
        stream = stream or await trio.open_tcp_stream("127.0.0.1", port)
        text = await ask(stream)
        if not text:
            await stream.aclose()
            stream = None
        told = EVERY.search(text)
        await trio.sleep(EVERY_S if told is None else float(told[1]))


async def ask(stream: trio.SocketStream) -> bytes:
    """Nothing, if it doesn't answer."""
    text = b""
    try:
        await stream.send_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        while b"</html>" not in text:
            if not (part := await stream.receive_some(1 << 16)):
                return b""
            text += part
    except trio.BrokenResourceError:
        return b""
    return text


async def open_tabs(port: int, count: int) -> None:
    """Until killed."""
    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(tab, port, number * EVERY_S / count)
        while True:
            await trio.run_process(
                [sys.executable, "-c", SCRAPE, f"http://127.0.0.1:{port}/metrics"], stdout=subprocess.DEVNULL
            )
            await trio.sleep(SCRAPE_S)


SCRAPE = "import sys, urllib.request as r; r.urlopen(sys.argv[1], timeout=30).read()"


@contextmanager
def tabs(port: int, count: int) -> Iterator[None]:
    command = [sys.executable, "-m", "benchmarks.tabs", str(port), str(count)]
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}) as process:
        try:
            time.sleep(SETTLE_S if count > 60 else EVERY_S + 1.0)
            yield
        finally:
            process.kill()


def cpu_s(worker: Worker) -> float:
    fields = Path(f"/proc/{worker.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mb(worker: Worker) -> float:
    text = Path(f"/proc/{worker.process.pid}/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0]) / 1000


def jobs_a_second(server: Server, worker: Worker) -> tuple[float, float]:
    """And microseconds of the worker's CPU for each."""

    def done() -> int:
        return int(str(server.command("GET", "stat:processed") or 0))

    already, cpu_before, began = done(), cpu_s(worker), time.monotonic()
    with server.session() as command:
        for start in range(0, JOBS, 2000):
            jobs = (
                json.dumps({"class": "Nothing", "args": [], "queue": "q", "jid": f"{n:024x}"})
                for n in range(start, start + 2000)
            )
            command("LPUSH", "queue:q", *jobs)
    while server.command("LLEN", "queue:q") or server.command("LLEN", "queue:q:w:inprogress"):
        time.sleep(0.01)
    took_s = time.monotonic() - began
    wait_for(lambda: done() - already >= JOBS, "they are counted")
    return JOBS / took_s, (cpu_s(worker) - cpu_before) / JOBS * 1e6


def throughput(server: Server, worker: Worker, port: int) -> None:
    found: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    jobs_a_second(server, worker)  # warm
    for _ in range(ROUNDS):
        found[False].append(jobs_a_second(server, worker))
        with tabs(port, TABS):
            found[True].append(jobs_a_second(server, worker))
    for beside, name in ((False, "no tab"), (True, f"{TABS} tabs and a scrape")):
        rates, costs = zip(*found[beside], strict=True)
        print(
            f"{name:24}{statistics.median(rates):8.0f} jobs/s ({min(rates):.0f}-{max(rates):.0f}), "
            f"{statistics.median(costs):.1f} us of the worker's CPU a job"
        )
    ratios = [there[0] / alone[0] for there, alone in zip(found[True], found[False], strict=True)]
    print(f"with tabs / without: {statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})")


def idle(server: Server, worker: Worker) -> tuple[float, float, float]:
    """Commands and KB a second at Redis, and milliseconds a second of the worker's CPU."""
    (commands, size), cpu, began = of_redis(server), cpu_s(worker), time.monotonic()
    time.sleep(IDLE_S)
    (commands_now, size_now), took_s = of_redis(server), time.monotonic() - began
    return (commands_now - commands) / took_s, (size_now - size) / took_s / 1000, (cpu_s(worker) - cpu) / took_s * 1000


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder)).start("--appendonly", "no")
        port = free_port()
        (Path(folder) / "tabs_app.py").write_text(APP)
        worker = start_worker(
            Path(folder), server.url, "tabs_app:app", "--process-id", "w", "--web", f"127.0.0.1:{port}", *sys.argv[1:]
        )
        try:
            wait_for(lambda: reachable(f"http://127.0.0.1:{port}/"), "it is there")
            for count in (0, 10, TABS):
                if count:
                    with tabs(port, count):
                        commands, size, cpu = idle(server, worker)
                else:
                    commands, size, cpu = idle(server, worker)
                print(
                    f"idle, {count:3} tabs{' and a scrape' if count else '':14}{commands:6.1f} commands/s,{size:7.1f} KB/s at Redis,"
                    f"{cpu:6.1f} ms/s of the worker's CPU, {rss_mb(worker):.0f} MB",
                    flush=True,
                )
            throughput(server, worker, port)
        finally:
            worker.kill()
            server.kill()


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1].isdigit():
        trio.run(open_tabs, int(sys.argv[1]), int(sys.argv[2]))
    else:
        main()
