"""Floods of connections: the dashboard answers afterwards, and its process keeps descriptors for what else it does."""

from __future__ import annotations

import resource
import socket
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import anyio.abc
import pytest
import trio
from visiting import get

from trioworkers.chosen_redis import ChosenRedis
from trioworkers.web import connections, serving
from trioworkers.web.connections import accept_all
from trioworkers.web.serving import Serving, beside

OPEN = Path("/proc/self/fd")


def listening() -> socket.socket:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.listen(50)
    return listener


async def test_only_so_many_are_taken_at_a_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connections, "most_connections", lambda: 3)
    listener = listening()
    address = listener.getsockname()
    at_once, most, served = 0, 0, 0

    async def handler(stream: anyio.abc.SocketStream) -> None:
        nonlocal at_once, most, served
        at_once += 1
        most = max(most, at_once)
        try:
            with suppress(anyio.EndOfStream):
                await stream.receive()
            served += 1
            if served % 2:
                raise ValueError("of one connection only")
        finally:
            at_once -= 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept_all, listener, handler)
        with ExitStack() as stack, trio.fail_after(60):
            clients = [stack.enter_context(socket.create_connection(address)) for _ in range(9)]
            while at_once < 3:
                await trio.sleep(0.01)
            for client in clients:
                client.close()
            while served < 9:
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert most == 3
    assert at_once == 0


async def test_one_that_cant_be_accepted_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    listener, failures, accepted = listening(), [OSError(24, "Too many open files")] * 3, trio.Event()
    monkeypatch.setattr(connections, "PAUSE_S", 0.01)
    from_socket = anyio.abc.SocketListener.from_socket

    async def failing(sock: socket.socket) -> Any:
        found: Any = await from_socket(sock)
        accept = found.accept

        async def accept_or_not() -> Any:
            if failures:
                raise anyio.BrokenResourceError from failures.pop()
            return await accept()

        found.accept = accept_or_not
        return found

    async def handler(_: anyio.abc.SocketStream) -> None:
        accepted.set()

    monkeypatch.setattr(anyio.abc.SocketListener, "from_socket", failing)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept_all, listener, handler)
        with socket.create_connection(listener.getsockname()), trio.fail_after(60):
            await accepted.wait()
        nursery.cancel_scope.cancel()
    assert caplog.text.count("no connection can be accepted: [Errno 24] Too many open files") == 1


async def test_a_flood_takes_no_more_descriptors_than_that_and_is_outlived(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(connections, "most_connections", lambda: 4)
    monkeypatch.setattr(serving, "IDLE_S", 0.2)
    listener = Serving("127.0.0.1:0").listen()
    address = listener.getsockname()
    with beside(Serving("127.0.0.1:0").application(ChosenRedis(redis_url)), listener):
        url = f"http://127.0.0.1:{address[1]}/queues"
        await trio.to_thread.run_sync(get, url)
        before = len([*OPEN.iterdir()])
        with ExitStack() as stack:
            clients = [stack.enter_context(socket.create_connection(address, timeout=30)) for _ in range(40)]
            for client in clients[:8]:
                client.sendall(b"GET / HT")
            assert len([*OPEN.iterdir()]) - before <= 40 + 4 + 4, "ours, theirs, and what it has for itself"
        assert "Queues" in await trio.to_thread.run_sync(get, url)


def test_half_of_the_descriptors_are_for_something_else(monkeypatch: pytest.MonkeyPatch):
    for soft, most in ((1024, 512), (4, 8), (resource.RLIM_INFINITY, 65536)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, soft=soft: (soft, soft))
        assert connections.most_connections() == most
