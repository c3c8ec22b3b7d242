"""What Redis tells an epoch of keys that changed ("client-side caching"), and what is asked of it in that very moment.

For epochs that do nothing else. Redis remembers at which keys we have looked, and tells of the first change of each.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import trio
from coredis import exceptions

from trioworkers.broker.redis.metered import RawCommands
from trioworkers.broker.redis.opening import Socket
from trioworkers.broker.redis.request import Request
from trioworkers.broker.redis.translation import FOREIGN

Reaction = Callable[[bytes], RawCommands]
"""Told of a key that has just changed: what Redis is to be asked at once, or nothing. It runs in the task that reads: it may neither wait nor raise."""


class Changed(NamedTuple):
    """`keys`: those that may be there. `asked`: of which key something was asked, and the replies, each as it came or the error that Redis answered."""

    keys: Collection[bytes] = ()
    asked: tuple[bytes, Sequence[Any]] | None = None


class Tracking:
    """One epoch's. `patiently`: awaits a reply that may be long on its way, and is cancelled as usual."""

    def __init__(self, connection: Socket, patiently: Callable[[Request], Awaitable[Any]]) -> None:
        self._connection = connection
        self._patiently = patiently
        self._is_on = False
        self.watched: set[bytes] = set()
        """Keys that didn't exist, of which Redis will tell."""
        self._ask: Reaction | None = None
        self._asked: list[tuple[bytes, list[Request]]] = []
        """The key, and what it was asked; of one key."""
        connection.when_told(self._told)

    async def until_changed(self, keys: Sequence[bytes], ends_at: float, ask: Reaction) -> Changed:
        """See `Connection.until_changed`."""
        self._ask, self._asked = ask, []
        try:
            found = await self._changed(keys, ends_at)
        except trio.Cancelled:
            if not self._asked:
                raise
            found = ()  # it came in time: what was asked may have taken something, of which only we know
        finally:
            self._ask = None
        if not self._asked:
            return Changed(found)
        key, requests = self._asked[0]
        with trio.CancelScope(shield=True):
            replies = [await self._reply(request) for request in requests]
        return Changed(found, (key, replies))

    def _told(self, changed: Sequence[bytes] | None) -> None:
        """In the task that reads. Of several keys nothing is asked: whose turn it is isn't said here."""
        if self._ask is None or self._asked or changed is None or len(changed) != 1:
            return
        with suppress(*FOREIGN):  # the connection is just closing, which who waits finds out
            if commands := self._ask(changed[0]):
                requests: list[Request] = []
                self._asked.append((changed[0], requests))
                requests.extend(self._connection.ask(name, *words) for name, words in commands)

    async def _reply(self, request: Request) -> Any:
        try:
            return await self._patiently(request)
        except exceptions.ResponseError as error:
            return error

    async def _changed(self, keys: Sequence[bytes], ends_at: float) -> Collection[bytes]:
        if not self._is_on:
            await self._patiently(self._connection.ask(b"CLIENT TRACKING", b"ON"))
            self._is_on = True
        if news := self._news(self._connection.changed_meanwhile(), keys):
            return news
        # What comes before Redis watches is told by the reply.
        unsure = [key for key in keys if key not in self.watched]
        if unsure and await self._patiently(self._connection.ask(b"EXISTS", *unsure)):
            return unsure
        self.watched.update(unsure)
        with trio.move_on_at(ends_at):
            return self._news(await self._connection.changed(), keys)
        self.watched.clear()  # who stands between may swallow what Redis tells: look at all of them now and then
        return ()

    def _news(self, changed: Collection[bytes] | None, keys: Collection[bytes]) -> Collection[bytes]:
        """Of these keys those that changed, of which Redis will not tell again. `changed`: as `Socket.changed` returns it."""
        if changed is None:
            self.watched.clear()
            return keys
        self.watched.difference_update(changed)
        return changed and set(keys).intersection(changed)
