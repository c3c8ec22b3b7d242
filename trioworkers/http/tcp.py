"""A TCP stream that costs as little as Trio allows: what can be sent is sent at once, and only waiting goes through the event loop.

`trio.SocketStream` makes a scheduler round of each call, and a timeout around each call a cancel scope: together two thirds of what a
small request costs. Here a timeout belongs to the stream, and takes effect only where the stream has to wait.
"""

from __future__ import annotations

import select
import socket

import trio

from trioworkers.http.patience import Patience

READ_BYTES = 64 * 1024


class TCPStream(trio.abc.Stream):
    """A connected socket; also what TLS runs over. Cancellation and timeouts leave it open, but in an unknown state: close it.

    `read_timeout_s`, `write_timeout_s`: how long one wait for the peer may take; then trio.TooSlowError is raised. None: for ever.
    """

    def __init__(self, connected: trio.SocketStream, patience: Patience) -> None:
        self._socket = socket.socket(fileno=connected.socket.detach())
        self._socket.setblocking(False)  # noqa: FBT003 - the library's own signature
        self._patience = patience
        self._readable = select.poll()
        self._readable.register(self._socket.fileno(), select.POLLIN)
        self.read_timeout_s: float | None = None
        self.write_timeout_s: float | None = None

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send everything. No checkpoint if the kernel takes it at once: who sends will wait for the answer anyway."""
        sent = 0
        while True:
            try:
                sent += self._socket.send(memoryview(data)[sent:] if sent else data)
            except BlockingIOError:
                await self.wait_send_all_might_not_block()
            except OSError as error:
                raise trio.BrokenResourceError from error
            if sent >= len(data):
                return

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the kernel takes more."""
        await self._patience.within(self.write_timeout_s, trio.lowlevel.wait_writable, self._socket)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Wait for some bytes; b"" at the end of the stream."""
        while True:
            await self._patience.within(self.read_timeout_s, trio.lowlevel.wait_readable, self._socket)
            try:
                return self._socket.recv(max_bytes or READ_BYTES)
            except BlockingIOError:  # woken for nothing
                continue
            except OSError as error:
                raise trio.BrokenResourceError from error

    def has_news(self) -> bool:
        """Whether the peer has sent something or hung up."""
        return bool(self._readable.poll(0))

    def close(self) -> None:
        """Close it, without a checkpoint; who waits on it is woken with trio.ClosedResourceError."""
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()

    async def aclose(self) -> None:
        """Close it."""
        self.close()
        await trio.lowlevel.checkpoint()
