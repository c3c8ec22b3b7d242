"""Hears that a job has ended, for clients that block: each that waits has a connection of the client's pool for it, of which half are for others."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Any

from trioworkers.broker.redis_py import FOREIGN


class News:
    """Of `channel`, for one who waits. `listening`: all of this client who do, in whatever process; at most `most` in one."""

    def __init__(self, channel: str, listening: set[tuple[int, int]], most: int) -> None:
        self._channel = channel
        self._listening = listening
        self._most = most
        self._me = os.getpid(), id(self)
        self._client: Any = None
        self._pubsub: Any = None

    def wait(self, client: Any, seconds: float) -> bool:
        """Wait until there is news, or so long; the first time, begin to listen. Whether it would be told. Where it can't listen it only waits."""
        try:
            if client is not self._client:  # the first time; or it was let go, and this one leads to where Redis is now
                self.close()
                self._client = client
            if self._pubsub is None:
                return self._begin(client, seconds)
            self._pubsub.get_message(timeout=seconds)
        except FOREIGN:  # who waits looks by itself, and meets the same trouble there
            self.close()
            time.sleep(seconds)
            return False
        return True

    def _begin(self, client: Any, seconds: float) -> bool:
        # First say so, then count: of two who do at the same moment both may find that they are too many, but not both that they aren't.
        self._listening.add(self._me)
        if sum(pid == self._me[0] for pid, _ in list(self._listening)) > self._most:
            self._listening.discard(self._me)
            time.sleep(seconds)
            return False
        self._pubsub = client.pubsub()
        self._pubsub.subscribe(self._channel)
        return self._pubsub.get_message(timeout=seconds) is not None

    def close(self) -> None:
        """Give the connection back."""
        self._listening.discard(self._me)
        pubsub, self._pubsub = self._pubsub, None
        if pubsub is not None:
            with suppress(*FOREIGN):
                pubsub.close()
