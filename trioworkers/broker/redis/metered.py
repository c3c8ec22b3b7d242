"""The stream to Redis: what it has sent, and how a command gets out without waiting for the task that writes.

coredis has a task for each connection that writes, which takes a round of the event loop to wake. Mostly it has nothing to do, and the
line takes whatever we have: then it is written where it is asked.
"""

from __future__ import annotations

import fcntl
import socket
import termios
from array import array
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Protocol, Self

import anyio
import trio
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.tls import TLSStream

RawCommands = Sequence[tuple[bytes, Sequence[Any]]]
"""Each: its name, and its arguments, as coredis takes them to be written."""
PIECE_BYTES = 1 << 16


class Queue(Protocol):
    """coredis's queue to the task that writes: what we use of it."""

    def send_nowait(self, item: Any) -> None:
        """Have it written."""

    async def __aenter__(self) -> object:
        """It is opened."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        """It is closed."""


class Outgoing:
    """Stands before that queue. `write`: writes of these commands what can be written at once, and returns what the task that writes has to write yet; None: nothing."""

    def __init__(self, queue: Queue, write: Callable[[RawCommands], list[bytes] | None]) -> None:
        self._queue = queue
        self._write = write

    def send_nowait(self, commands: RawCommands) -> None:
        """See anyio."""
        left = self._write(commands)
        if left is not None:
            self._queue.send_nowait(left)

    async def __aenter__(self) -> Self:
        await self._queue.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._queue.__aexit__(kind, error, trace)


class Metered(ByteStream):
    """A stream that knows how much it has sent: in pieces, so that a large request shows that it gets on."""

    def __init__(self, inner: ByteStream) -> None:
        self._inner = inner
        self._raw: socket.socket = inner.extra(SocketAttribute.raw_socket)  # noqa: S610 - anyio's
        self._is_plain = not isinstance(inner, TLSStream)
        if not self._is_plain:
            self.receive = inner.receive  # type: ignore[method-assign]  # as its bytes are not those of the socket
        self._unacknowledged = array("i", [0])
        self._rest = b""
        self._is_writing = False
        self.waiting = 0
        """How many commands wait for the task that writes."""
        self.sent = 0
        self.is_sending = False
        """Whether a large request is just going out."""

    async def send(self, item: bytes) -> None:
        """See anyio. The task that writes has all that waited in `item`."""
        self.waiting, self._is_writing = 0, True
        try:
            await self._send(self._rest + item if self._rest else item)
        finally:
            self._is_writing = False

    async def _send(self, item: bytes) -> None:
        self._rest = b""
        if len(item) <= PIECE_BYTES:
            await self._inner.send(item)
            self.sent += len(item)
            return
        self.is_sending = True
        try:
            for first in range(0, len(item), PIECE_BYTES):
                piece = item[first : first + PIECE_BYTES]
                await self._inner.send(piece)
                self.sent += len(piece)
        finally:
            self.is_sending = False

    @property
    def may_write(self) -> bool:
        """Whether nobody writes, and nothing waits that has to go first."""
        return self._is_plain and not self._is_writing and not self.waiting

    def send_at_once(self, data: bytes) -> bool:
        """Whether the line took all of it here and now. The rest goes before all else when the task that writes comes."""
        sent = 0
        if len(data) <= PIECE_BYTES:
            try:
                sent = self._raw.send(data)
            except OSError:  # it is full; or broken, which the task that writes will find out, too
                sent = 0
        if sent == len(data):
            self.sent += sent
            return True
        self.sent += sent
        self._rest = data[sent:]
        return False

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """See anyio. A reply is hardly ever there when one begins to wait for it: so nobody looks in vain before."""
        try:
            while True:
                await trio.lowlevel.wait_readable(self._raw)
                with suppress(BlockingIOError):
                    data = self._raw.recv(max_bytes)
                    break
        except (trio.ClosedResourceError, ValueError):  # closed meanwhile, or before: then it has no number any more
            raise anyio.ClosedResourceError from None
        except OSError as error:
            raise anyio.BrokenResourceError from error
        if not data:
            raise anyio.EndOfStream
        return data

    async def send_eof(self) -> None:
        """See anyio."""
        await self._inner.send_eof()

    async def aclose(self) -> None:
        """See anyio."""
        await self._inner.aclose()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """See anyio."""
        return self._inner.extra_attributes

    def unacknowledged(self) -> int:
        """How much of it the other side's machine has not confirmed yet."""
        try:
            fcntl.ioctl(self._raw.fileno(), termios.TIOCOUTQ, self._unacknowledged)
        except (OSError, ValueError):  # a system that can't tell, or a socket that was just closed
            return 0
        return self._unacknowledged[0]
