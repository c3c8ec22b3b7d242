"""Commands are written where they are asked if the line takes them, and through the task that writes otherwise: always in the order in which they were asked."""

from __future__ import annotations

import random
import socket
import threading

import anyio
import pytest
import trio
import trio.testing
from anyio.abc import SocketAttribute

from trioworkers.broker.redis.connection import Link, connect
from trioworkers.broker.redis.metered import Metered


async def test_a_command_is_written_before_its_reply_is_awaited(redis_url: str):
    async with connect(redis_url, Link(redis_url)) as connection:
        await connection.execute("ping", "PING")
        epoch = connection._current_epoch()
        socket_ = await epoch.connection()
        assert isinstance(socket_.stream, Metered)
        before = socket_.stream.sent
        reply = socket_.create_request(b"PING", b"x" * 100)
        assert socket_.stream.sent > before + 100  # and nothing was awaited
        assert await reply == b"x" * 100


class Slow:
    """Passes on what is sent to a Redis a little at a time, through a buffer that is soon full."""

    def __init__(self, redis_url: str) -> None:
        self._target = ("127.0.0.1", int(redis_url.rsplit(":", 1)[1].split("/", maxsplit=1)[0]))
        self._listening = socket.socket()
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._listening.bind(("127.0.0.1", 0))
        self._listening.listen()
        self.url = f"redis://127.0.0.1:{self._listening.getsockname()[1]}/0"
        self.go_on = threading.Event()
        self._threads = [threading.Thread(target=self._pass_on)]
        self._threads[0].start()

    def _pass_on(self) -> None:
        near, _ = self._listening.accept()
        far = socket.create_connection(self._target)
        back = threading.Thread(target=self._pass, args=(far, near))
        back.start()
        self._pass(near, far, self.go_on)
        back.join()
        near.close()
        far.close()

    def _pass(self, source: socket.socket, sink: socket.socket, when: threading.Event | None = None) -> None:
        while data := source.recv(4096):
            sink.sendall(data)
            if when is not None:
                when.wait()
        sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        for thread in self._threads:
            thread.join()
        self._listening.close()


async def test_order_is_kept_while_the_line_is_full_and_after(redis_url: str):
    slow = Slow(redis_url)
    slow.go_on.set()
    chance = random.Random(7)
    expected = [b"%d:" % number + b"x" * chance.choice([1, 100, 4000, 8000, 9000, 70_000]) for number in range(600)]
    try:
        async with connect(slow.url, Link(slow.url)) as connection:
            await connection.execute("ping", "PING")
            socket_ = await connection._current_epoch().connection()
            assert isinstance(socket_.stream, Metered)
            socket_.stream._raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            slow.go_on.clear()
            for number, each in enumerate(expected):
                socket_.create_request(b"RPUSH", "ordered", each)
                if number == 300:
                    await trio.testing.wait_all_tasks_blocked(0.01)  # the line is full
                    slow.go_on.set()
                elif number > 300 and number % 20 == 0:
                    await connection.execute("ping", "PING")  # it is empty again: what follows may be written at once
            there = await connection.execute("read", "LRANGE", "ordered", 0, -1)
    finally:
        slow.go_on.set()
        slow.close()
    assert [bytes(each) for each in there] == expected


async def test_what_the_line_took_half_of_goes_first(redis_url: str):
    async with connect(redis_url, Link(redis_url)) as connection:
        await connection.execute("ping", "PING")
        socket_ = await connection._current_epoch().connection()
        stream = socket_.stream
        assert isinstance(stream, Metered)

        class Halving:
            """A socket that takes a part of what it is given."""

            def __init__(self, raw: socket.socket) -> None:
                self._raw = raw
                self.fileno = raw.fileno
                self.recv = raw.recv

            def send(self, data: bytes) -> int:
                return self._raw.send(data[: max(1, len(data) // 2)])

        stream._raw = Halving(stream._raw)  # type: ignore[assignment]
        requests = [socket_.ask(b"RPUSH", "ordered", str(number)) for number in range(50)]
        for request in requests:
            await request.reply(30.0, shield=False)
        for number in range(50, 60):
            await socket_.create_request(b"RPUSH", "ordered", str(number))
        there = await connection.execute("read", "LRANGE", "ordered", 0, -1)
    assert [int(each) for each in there] == list(range(60))


@pytest.mark.parametrize("closed_first", [True, False])
async def test_reading_from_a_closed_socket_says_so(closed_first: bool):
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listening:
        port = listening.extra(SocketAttribute.local_port)
        stream = Metered(await anyio.connect_tcp("127.0.0.1", port))
        if closed_first:
            await stream.aclose()
        async with trio.open_nursery() as nursery:
            with trio.fail_after(60), pytest.raises(anyio.ClosedResourceError):
                if not closed_first:

                    async def close() -> None:
                        await trio.testing.wait_all_tasks_blocked()
                        await stream.aclose()

                    nursery.start_soon(close)
                await stream.receive()
