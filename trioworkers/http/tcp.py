"""A TCP stream that costs as little as Trio allows: what can be sent is sent at once, and only waiting goes through the event loop.

`trio.SocketStream` makes a scheduler round of each call, and a timeout around each call a cancel scope: together two thirds of what a
small request costs. Here a timeout belongs to the stream, and takes effect only where the stream has to wait.
"""

from __future__ import annotations

import select
import socket

import trio

READ_BYTES = 64 * 1024


class TCPStream(trio.abc.Stream):
    """A connected socket; also what TLS runs over. Cancellation and timeouts leave it open, but in an unknown state: close it.

    `read_timeout_s`, `write_timeout_s`: how long one wait for the peer may take; then trio.TooSlowError is raised. None: for ever.
    """

    def __init__(self, connected: trio.SocketStream) -> None:
        self._socket = socket.socket(fileno=connected.socket.detach())
        self._socket.setblocking(False)  # noqa: FBT003 - the library's own signature
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
        patience = _patience(self.write_timeout_s)
        if patience is None:
            await trio.lowlevel.wait_writable(self._socket)
        else:
            with patience:
                await trio.lowlevel.wait_writable(self._socket)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Wait for some bytes; b"" at the end of the stream."""
        while True:
            patience = _patience(self.read_timeout_s)
            if patience is None:
                await trio.lowlevel.wait_readable(self._socket)
            else:
                with patience:
                    await trio.lowlevel.wait_readable(self._socket)
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


class _Within:
    """`trio.fail_after`, without the generator."""

    def __init__(self, deadline: float) -> None:
        self._scope = trio.CancelScope(deadline=deadline)

    def __enter__(self) -> None:
        self._scope.__enter__()

    def __exit__(self, *exception: object) -> bool:
        caught = self._scope.__exit__(*exception)  # type: ignore[arg-type]
        if self._scope.cancelled_caught:
            raise trio.TooSlowError
        return bool(caught)


def _patience(seconds: float | None) -> _Within | None:
    """A scope only where it can make a difference: it is the dearest part of waiting, and most jobs have a deadline of their own."""
    if seconds is None:
        return None
    deadline = trio.current_time() + seconds
    return None if trio.current_effective_deadline() <= deadline else _Within(deadline)
