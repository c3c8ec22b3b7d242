"""Keeps rounds of the event loop short: a thousand jobs that start at once would all send in the same one, and nobody else would run.

Trio runs all tasks that can run before it looks at the network and the clocks again. Four thousand requests at 0.1 ms each are 0.4 s, in
which no heartbeat is sent and no answer is read.
"""

from __future__ import annotations

import trio


class StartLimiter:
    """Lets about `size` tasks through in one round of the event loop; the others wait for the following rounds, in order.

    Costs nothing as long as it is passed: only every `size`th task makes a round of its own, and lets the next ones in.
    `rounds`: how many were made. As long as it is the same, what somebody starts who was let through comes on top of `size`.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._left = size
        self.rounds = 0
        self._has_doorman = False
        self._waiting = trio.lowlevel.ParkingLot()

    async def pass_through(self) -> None:
        """Wait for a round with room. Cancelled, the task goes away, and nobody waits for it."""
        while self._left == 0:
            if self._has_doorman:
                await self._waiting.park()
            else:
                await self._open()
        self._left -= 1

    async def _open(self) -> None:
        self._has_doorman = True
        try:
            await trio.lowlevel.checkpoint()
        finally:
            self._has_doorman = False
            self._left = self._size
            self.rounds += 1
            # One more than there is room for: that one opens the next round.
            self._waiting.unpark(count=self._size + 1)
