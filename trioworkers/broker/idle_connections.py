"""The connections of a blocking client that nobody uses now, for redis-py's pool.

The pool's own queue has a lock. A signal handler that sends while its thread holds that lock would wait for ever, and an exception that a signal
handler raises at the wrong moment would leave the lock taken. Here each step is one step of the interpreter, so there is nothing to be held.
"""

from __future__ import annotations

from queue import Full, SimpleQueue
from typing import Any


class IdleConnections:
    """At most `most` of them; None stands for one that isn't open yet. The last that came is the first that goes, so few are ever opened."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.queue: list[Any] = []  # by this name redis-py looks into it
        self._count: SimpleQueue[None] = SimpleQueue()  # has an entry for each that is in `queue`, and never one more

    def get(self, block: bool = True, timeout: float | None = None) -> Any:  # noqa: FBT002 - as redis-py calls it
        """Take one; wait for it so many seconds. Raises queue.Empty."""
        self._count.get(block, timeout)
        return self.queue.pop()

    def put_nowait(self, connection: Any) -> None:
        """Give one back. Raises queue.Full."""
        if len(self.queue) >= self._most:
            raise Full
        self.queue.append(connection)
        self._count.put(None)
