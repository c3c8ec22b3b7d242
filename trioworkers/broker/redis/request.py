"""One command on its way, and its reply, which coredis's reader brings.

Not a request of coredis's own: that sets its timeout within the shield that we need as well, through anyio, and tells its telemetry of each
command. That was a fifth of what a command costs.
"""

from __future__ import annotations

from typing import Any

import trio


class Request:
    """Stands in coredis's queue of those that wait for a reply. `name`: the command, for errors."""

    __slots__ = ("_arrived", "_name", "_reply", "complete")

    current_decode = False
    current_encoding = "utf-8"

    def __init__(self, name: bytes | str) -> None:
        self._name = name
        self._arrived = trio.Event()
        self._reply: Any = None
        self.complete = False
        """Whether the reply is there, or none can come any more."""

    def consume(self, reply: Any) -> None:
        """The reply, or the error that is raised instead. Only the first counts."""
        if not self.complete:
            self._reply, self.complete = reply, True
            self._arrived.set()

    fail = consume

    @property
    def answer(self) -> Any:
        """What Redis answered; None as long as that isn't there, and for an error."""
        return None if isinstance(self._reply, BaseException) else self._reply

    async def reply(self, patience_s: float, *, shield: bool) -> Any:
        """Wait for it, so long. Raises TimeoutError, after which it may be waited for again; and coredis's error for what Redis answered, or for a lost connection.

        Cancellation, if it isn't shielded: only the waiting ends.
        """
        if not self.complete:
            with trio.CancelScope(deadline=trio.current_time() + patience_s, shield=shield):
                await self._arrived.wait()
            if not self.complete:
                name = self._name if isinstance(self._name, str) else self._name.decode()
                raise TimeoutError(f"{name} timed out after {patience_s} seconds")
        if isinstance(self._reply, BaseException):
            raise self._reply
        return self._reply
