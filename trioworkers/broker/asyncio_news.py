"""Hears that jobs have ended, for clients on asyncio: over one connection, which all who wait share as long as anybody does."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from trioworkers.broker.redis_py import FOREIGN


class Listener:
    """One client's, in one event loop."""

    def __init__(self, client: Any) -> None:
        self._pubsub = client.pubsub()
        self._told: dict[str, set[News]] = {}
        self._reader: asyncio.Task[None] | None = None
        self._changing = asyncio.Lock()
        self.is_over = False

    async def begin(self, channel: str, news: News) -> None:
        """Have `news` hear of a channel. Raises what redis-py raises."""
        async with self._changing:
            is_new = channel not in self._told
            self._told.setdefault(channel, set()).add(news)
            if is_new:
                await self._pubsub.subscribe(channel)
            else:
                news.told.set()  # it is subscribed to, or about to be: look once more either way
            if self._reader is None:
                self._reader = asyncio.create_task(self._read())

    async def end(self, channel: str, news: News) -> None:
        """It needs no more news. With the last one the connection goes."""
        async with self._changing:
            waiting = self._told.get(channel, set())
            waiting.discard(news)
            if waiting or channel not in self._told:
                return
            del self._told[channel]
            if self._told and not self.is_over:
                with suppress(*FOREIGN):
                    await self._pubsub.unsubscribe(channel)
                return
            self.is_over = True
            if self._reader is not None:
                self._reader.cancel()
            with suppress(*FOREIGN):
                await self._pubsub.aclose()

    async def close(self) -> None:
        """Its client has let go of its connections: those who wait are told, and look for themselves."""
        async with self._changing:
            self.is_over = True
            if self._reader is not None:
                self._reader.cancel()
            with suppress(*FOREIGN):
                await self._pubsub.aclose()

    async def _read(self) -> None:
        try:
            async for message in self._pubsub.listen():
                if message["type"] in ("subscribe", "message"):
                    for news in self._told.get(message["channel"].decode(errors="replace"), ()):
                        news.is_sure = True
                        news.told.set()
        except FOREIGN:  # who waits looks by itself, and meets the same trouble there
            pass
        finally:
            self.is_over = True
            for waiting in self._told.values():
                for news in waiting:
                    news.is_sure = False
                    news.told.set()


class News:
    """Of `channel`, for one who waits. `is_sure`: whether Redis has confirmed that it would tell."""

    def __init__(self, channel: str) -> None:
        self._channel = channel
        self._listener: Listener | None = None
        self.told = asyncio.Event()
        self.is_sure = False

    async def wait(self, listener: Listener, seconds: float) -> bool:
        """Wait until there is news, or so long; the first time, begin to listen. Whether it would be told. Where it can't listen it only waits."""
        if self._listener is not listener:
            self._listener = listener
            with suppress(*FOREIGN):
                await listener.begin(self._channel, self)
        with suppress(TimeoutError):
            await asyncio.wait_for(self.told.wait(), seconds)
        self.told.clear()
        return self.is_sure

    async def close(self) -> None:
        """It needs no more."""
        if self._listener is not None:
            await self._listener.end(self._channel, self)
