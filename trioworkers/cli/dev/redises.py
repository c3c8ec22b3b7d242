"""The servers of `dev`: which Redis its worker gets, and where it comes from."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from pathlib import Path

from trioworkers.broker.redis.server import greeting_at, open_server
from trioworkers.cli.dev.messages import Need
from trioworkers.dev_note import FOLDER, NoteKeeper, private_folder
from trioworkers.redis_url import shown_url
from trioworkers.settings import DEFAULT_URL

logger = logging.getLogger("trioworkers.dev")


class Redises:
    """The Redis for each wish; embedded ones run until the end."""

    def __init__(self, servers: AsyncExitStack, note: NoteKeeper) -> None:
        self._servers = servers
        self._note = note
        self._urls: dict[str | None, str] = {}

    async def give(self, need: Need) -> str:
        """The URL for a worker's need; noted for the other commands. Raises ConfigurationError."""
        if need.redis not in self._urls:
            wanted = await self._choose() if need.redis is None else need.redis
            self._urls[need.redis] = await self._servers.enter_async_context(open_server(wanted))
            if need.redis is not None:
                logger.info("Redis: %s", shown_url(need.redis))
        url = self._urls[need.redis]
        self._note.write(url, need.namespace)
        return url

    async def _choose(self) -> str:
        greeting = await greeting_at(DEFAULT_URL)
        if greeting == "PONG":
            logger.info("Redis: the one at %s", DEFAULT_URL)
            return DEFAULT_URL
        why = f"the one at {DEFAULT_URL} says {greeting}" if greeting else f"none at {DEFAULT_URL}"
        home = private_folder(Path.cwd()) / "redis"
        logger.info("Redis: our own, its data is in %s/redis (%s)", FOLDER, why)
        return f"embedded:{home}"
