"""Mounted in other programs: FastAPI under uvicorn, a Trio server, beside a worker; and browsers that leave."""

from __future__ import annotations

import errno
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
import trio.testing
from servers import ROOT, Server, Worker, free_port, wait_for
from visiting import HERE, failed, get, reachable, visiting

from trioworkers.chosen_redis import ChosenRedis
from trioworkers.errors import ConfigurationError
from trioworkers.process import page_address
from trioworkers.web import asgi, http
from trioworkers.web.serving import Serving, beside, serve
from trioworkers.web.site import PAGES_AT_ONCE

OPEN = Path("/proc/self/fd")

IN_FASTAPI = """
import fastapi, uvicorn, sys
from trioworkers import web
api = fastapi.FastAPI()
api.mount("/jobs", web.asgi(sys.argv[1]))

@api.get("/")
def own(): return "mine"

uvicorn.run(api, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
"""


@pytest.fixture
def fastapi_url(redis_url: str, tmp_path: Path) -> Iterator[str]:
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    port = free_port()
    log = tmp_path / "log"
    with log.open("wb") as sink:
        command = [sys.executable, "-c", IN_FASTAPI, redis_url, str(port)]
        process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=sink, stderr=sink)
    try:
        wait_for(lambda: reachable(f"http://127.0.0.1:{port}/"), lambda: f"it starts: {log.read_text()}")
        yield f"http://127.0.0.1:{port}/jobs"
    finally:
        process.terminate()
        process.wait()
        assert "Traceback" not in log.read_text()


def test_in_fastapi_under_uvicorn(fastapi_url: str, command: Callable[..., Any]):
    command("ZADD", "dead", 1, failed(1))
    page = get(f"{fastapi_url}/dead")
    assert f"{1:024x}" in page
    assert 'href="/jobs/queues"' in page
    assert "body" in get(fastapi_url + re.findall(r'href="/jobs(/static/style.css[^"]*)"', page)[0])
    done = get(f"{fastapi_url}/do/pause", queue="default", back="/queues")
    assert "default: paused" in done
    assert command("SMEMBERS", "paused") == ["default"]
    assert "Overview" in get(f"{fastapi_url}/")


async def test_as_it_is_in_a_trio_server(redis_url: str):
    serving = Serving("127.0.0.1:0")
    listener = serving.listen()
    port = listener.getsockname()[1]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, serving.application(ChosenRedis(redis_url)), listener)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as visitor:
            assert "Overview" in (await visitor.get("/")).text
        nursery.cancel_scope.cancel()


def test_beside_what_blocks(redis_url: str):
    """It has a thread of its own: whatever the worker's event loop does, the page is there; and it ends with its block."""
    serving = Serving("127.0.0.1:0")
    listener = serving.listen()
    port = listener.getsockname()[1]
    with beside(serving.application(ChosenRedis(redis_url)), listener):
        wait_for(lambda: reachable(f"http://127.0.0.1:{port}/"), "it is there")
    wait_for(lambda: not reachable(f"http://127.0.0.1:{port}/"), "it is gone")
    assert "trioworkers-web" not in [thread.name for thread in threading.enumerate()]


def test_run_with_web_serves_until_the_worker_stops(work: Callable[..., Worker], server: Server, jobs: Any):
    port = free_port()
    worker = work("w1", "--web", f"127.0.0.1:{port}").wait_started()
    jobs.push(3, "Sleep", 0)
    wait_for(lambda: len(jobs.counted("end")) == 3, "jobs run")
    assert "w1" in get(f"http://127.0.0.1:{port}/processes")
    worker.process.terminate()
    assert worker.ended() == 0
    assert "Traceback" not in worker.text
    assert not reachable(f"http://127.0.0.1:{port}/")


async def test_who_leaves_ends_the_scan(redis_url: str, command: Callable[..., Any]):
    """A browser that goes away while a page looks through everything."""
    for start in range(0, 30_000, 5000):
        command("ZADD", "dead", *(word for n in range(start, start + 5000) for word in (n, failed(n))))
    app = asgi(redis_url)
    sent: list[Any] = []
    left = trio.Event()
    ended = trio.Event()

    async def receive() -> dict[str, Any]:
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)
        if len(sent) == 2:  # the head is out
            left.set()

    async def visit() -> None:
        query = b"q=nosuchthing"
        scope = {"type": "http", "method": "GET", "path": "/dead", "query_string": query, "client": ("127.0.0.1", 1)}
        await app({**scope, "headers": [(b"host", b"localhost")]}, receive, send)
        ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(visit)
        await ended.wait()
    assert sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}  # so that a server lets go of it
    assert b"</html>" not in b"".join(each.get("body", b"") for each in sent)  # it was given up, not finished


@pytest.mark.parametrize("path", ["/queues", "/dead", "/nix", "/rates.svg", "/static/style.css"])
async def test_a_server_is_never_cancelled_in_the_middle_of_a_send(redis_url: str, path: str):
    """It hears that the browser is gone while it sends, and still has to let go of the connection."""
    left, sent = trio.Event(), list[bool]()

    async def receive() -> dict[str, Any]:
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            left.set()
        await trio.testing.wait_all_tasks_blocked(0.01)
        sent.append(message.get("more_body", True))

    scope = {"type": "http", "method": "GET", "path": path, "client": ("127.0.0.1", 1)}
    await asgi(redis_url)({**scope, "headers": [(b"host", b"localhost")]}, receive, send)
    assert sent[-1] is False


async def test_who_asks_for_much_and_takes_nothing_leaves_nothing_open(
    redis_url: str, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(page_address, "PATIENCE_S", 0.3)
    command(
        "ZADD", "dead", *(each for number in range(60) for each in (number, failed(number, error_message="e" * 500)))
    )
    listener = Serving("127.0.0.1:0").listen()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    port = listener.getsockname()[1]
    with beside(Serving("127.0.0.1:0").application(ChosenRedis(redis_url)), listener):
        await trio.to_thread.run_sync(get, f"http://127.0.0.1:{port}/static/style.css")
        before = len([*OPEN.iterdir()])
        with ExitStack() as stack:
            for path in (b"/dead", b"/queues", b"/rates.svg"):
                idle = stack.enter_context(socket.socket())
                idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                idle.settimeout(30)
                idle.connect(("127.0.0.1", port))
                idle.sendall(b"GET %s HTTP/1.1\r\nhost: localhost\r\n\r\n" % path * 40)
                assert idle.recv(9, socket.MSG_PEEK) == b"HTTP/1.1 "
        with trio.fail_after(60):
            while len([*OPEN.iterdir()]) > before:
                await trio.sleep(0.05)


async def test_more_tabs_than_pages_at_once_all_get_theirs(redis_url: str):
    async with visiting(asgi(redis_url), headers=HERE, timeout=30) as visitor:
        codes: list[int] = []

        async def tab() -> None:
            codes.append((await visitor.get("/queues")).status_code)

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(tab)
        assert codes == [200] * 50


async def test_five_hundred_open_tabs_cost_redis_what_one_does(server: Server):
    """Real connections, that stay open; each asks for a live page again and again."""
    server.command("SADD", "queues", "default")
    server.command("LPUSH", "queue:default", failed(1))
    serving = Serving("127.0.0.1:0")
    listener = serving.listen()
    port = listener.getsockname()[1]
    most_clients = 0

    async def tab(number: int) -> None:
        nonlocal most_clients
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(stream)
            for _ in range(2):
                text = b""
                while b"</html>" not in text:
                    try:
                        if not text:
                            await stream.send_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
                        part = await stream.receive_some(1 << 16)
                    except trio.BrokenResourceError:
                        part = b""
                    if (
                        not part
                    ):  # on a busy machine five seconds may pass between two of its requests: as browsers do, once more
                        assert not text, "it hung up in the middle"
                        stream = await stack.enter_async_context(await trio.open_tcp_stream("127.0.0.1", port))
                    text += part
                assert text.startswith(b"HTTP/1.1 200"), text[:100]
            if number % 50 == 0:
                most_clients = max(most_clients, int(info(server, "clients")["connected_clients"]))

    with beside(serving.application(ChosenRedis(server.url)), listener):
        before, began = int(info(server, "stats")["total_commands_processed"]), trio.current_time()
        async with trio.open_nursery() as nursery:
            for number in range(500):
                nursery.start_soon(tab, number)
        took = trio.current_time() - began
        asked = int(info(server, "stats")["total_commands_processed"]) - before
    assert asked < 60 * (took + 2)
    assert most_clients < 20


async def test_who_never_reads_holds_up_nobody(redis_url: str, command: Callable[..., Any]):
    """As many as may ask at once ask for a page that no buffer holds, and don't take it."""
    command(
        "ZADD", "dead", *(each for number in range(60) for each in (number, failed(number, error_message="e" * 500)))
    )
    listener = Serving("127.0.0.1:0").listen()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    port = listener.getsockname()[1]
    with beside(Serving("127.0.0.1:0").application(ChosenRedis(redis_url)), listener), ExitStack() as stack:
        for _ in range(PAGES_AT_ONCE + 2):
            idle = stack.enter_context(socket.socket())
            idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            idle.settimeout(30)
            idle.connect(("127.0.0.1", port))
            idle.sendall(b"GET /dead HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert idle.recv(9, socket.MSG_PEEK) == b"HTTP/1.1 "  # it is under way
        assert "60 jobs" in await trio.to_thread.run_sync(get, f"http://127.0.0.1:{port}/dead")


def test_who_takes_nothing_is_hung_up_on(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(page_address, "PATIENCE_S", 0.3)
    with Serving("127.0.0.1:0").listen() as listener, socket.socket() as idle:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        idle.connect(listener.getsockname())
        connection, _ = listener.accept()
        with connection, pytest.raises(TimeoutError, match="timed out") as failed:
            connection.settimeout(60)
            connection.sendall(b"x" * (1 << 22))
        assert failed.value.errno == errno.ETIMEDOUT  # Linux gave it up, not our own patience


async def test_what_could_be_read_in_two_ways_or_never_ends_is_refused(redis_url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(http, "BODY_S", 0.2)
    serving = Serving("127.0.0.1:0")
    listener = serving.listen()
    port = listener.getsockname()[1]
    post = "POST /do/pause HTTP/1.1\r\nhost: localhost\r\nsec-fetch-site: same-origin\r\n"
    upgrade = "upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n"

    async def answers(text: str) -> list[str]:
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(text.encode())
            found = b""
            while part := await stream.receive_some(1 << 16):
                found += part
                if b" 408 " in found:
                    break
        return re.findall(r"HTTP/1.1 (\d+) ", found.decode("latin-1"))

    with beside(serving.application(ChosenRedis(redis_url)), listener), trio.fail_after(60):
        two = f"{post}content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\nhost: localhost\r\n\r\n"
        assert await answers(two) in (
            ["400"],
            [],
        )  # whether or not that is still told: it hangs up, and what follows is no request
        assert await answers(f"{post}content-length: 9\r\n\r\na") == ["408"]
        assert await answers(f"GET / HTTP/1.1\r\nhost: localhost\r\n{upgrade}\r\n") == ["403"]


def info(server: Server, section: str) -> dict[str, str]:
    lines = str(server.command("INFO", section)).splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def test_names_that_cant_be_asked_for_are_no_address():
    for host in ("a..b", "." * 3, "x" * 300, "a" + "\udcff"):
        with pytest.raises(ConfigurationError, match="can't listen on"):
            Serving(f"{host}:80").listen()


def test_nobody_listens_where_somebody_does(redis_url: str, tmp_path: Path):
    taken = Serving("127.0.0.1:0").listen()
    address = f"127.0.0.1:{taken.getsockname()[1]}"
    command = [sys.executable, "-m", "trioworkers", "web", "--redis", redis_url, "--bind", address]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=30, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    taken.close()
    assert done.returncode == 1
    assert "can't listen on" in done.stderr
    assert "Traceback" not in done.stderr
