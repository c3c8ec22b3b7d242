"""Hears that jobs have ended, over a socket of its own, which all who wait over one connection share.

What is heard is never the truth, only a reason to look: a message may be lost with its socket, and so may the socket without anybody's notice. So who waits
looks again by itself now and then, and often as long as nobody confirms that it would be told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import trio

from trioworkers.broker.redis.opening import Socket
from trioworkers.broker.redis.translation import FOREIGN
from trioworkers.errors import BrokerError

if TYPE_CHECKING:
    from trioworkers.broker.redis.epoch import Epoch


class News:
    """What one waits for. `is_sure`: whether Redis has confirmed that it would tell."""

    def __init__(self, begin: Callable[[News], None]) -> None:
        self._begin = begin
        self._told = trio.Event()
        self.is_sure = False

    async def wait(self, seconds: float) -> bool:
        """Wait until there is news, or so long. The first call begins to listen. Whether news will surely wake the next call, too."""
        if not self.is_sure:
            self._begin(self)
        with trio.move_on_after(seconds):
            await self._told.wait()
        self._told = trio.Event()
        return self.is_sure

    def tell(self, *, is_sure: bool) -> None:
        """Wake who waits."""
        self.is_sure = is_sure
        self._told.set()


class Listener:
    """One connection's. `open_epoch`: opens a socket; `nursery`: in which what comes over it is read."""

    def __init__(self, open_epoch: Callable[[], Epoch], nursery: trio.Nursery) -> None:
        self._open_epoch = open_epoch
        self._nursery = nursery
        self._waiting: dict[bytes, set[News]] = {}
        self._epoch: Epoch | None = None
        self._socket: Socket | None = None
        self._is_refused = False

    @contextmanager
    def listen(self, channel: str) -> Iterator[News]:
        """News of a channel, within the block. Nothing is opened before somebody waits for them."""
        name = channel.encode(errors="surrogateescape")
        news = News(lambda news: self._begin(name, news))
        try:
            yield news
        finally:
            self._end(name, news)

    def close(self) -> None:
        """Let the socket go."""
        if self._epoch is not None:
            self._epoch.retired.set()

    def _begin(self, channel: bytes, news: News) -> None:
        if self._is_refused:
            return
        is_new = channel not in self._waiting
        self._waiting.setdefault(channel, set()).add(news)
        if self._epoch is None or self._epoch.is_over:
            self._socket = None
            self._epoch = self._open_epoch()
            self._nursery.start_soon(self._read, self._epoch)
        elif self._socket is not None and is_new:
            self._send(self._socket, b"SUBSCRIBE", channel)
        elif self._socket is not None:
            news.is_sure = any(other.is_sure for other in self._waiting[channel])

    def _end(self, channel: bytes, news: News) -> None:
        waiting = self._waiting.get(channel, set())
        waiting.discard(news)
        if waiting or channel not in self._waiting:
            return
        del self._waiting[channel]
        if self._socket is not None and self._socket.usable:
            self._send(self._socket, b"UNSUBSCRIBE", channel)

    def _send(self, socket: Socket, command: bytes, channel: bytes) -> None:
        """Over a socket that may be closing just now: then nobody is told, and who waits looks by itself."""
        with suppress(*FOREIGN):
            socket.send_command(command, channel)

    async def _read(self, epoch: Epoch) -> None:
        try:
            self._socket = socket = await epoch.connection()
            if self._waiting:
                socket.send_command(b"SUBSCRIBE", *self._waiting)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._hear_refusal, socket, nursery.cancel_scope)
                async for message in socket.push_messages:
                    if message[0] in (b"message", b"subscribe") and isinstance(message[1], bytes):
                        self._tell(message[1])
        except* (*FOREIGN, BrokerError):  # who waits looks by itself, and meets the same trouble there
            pass
        finally:
            epoch.retired.set()
            for channel in self._waiting:
                self._tell(channel, is_sure=False)

    async def _hear_refusal(self, socket: Socket, scope: trio.CancelScope) -> None:
        """All that is answered is told as news; what comes as an answer is an error: our user may not listen."""
        async for _ in socket.streamed_messages:
            self._is_refused = True
            scope.cancel()

    def _tell(self, channel: bytes, *, is_sure: bool = True) -> None:
        for news in self._waiting.get(channel, ()):
            news.tell(is_sure=is_sure)
