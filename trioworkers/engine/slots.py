"""Slots: how many jobs may run at once, as a thing of its own.

Who fetches takes slots first, and fetches no more than it took; what stays empty it gives back at once. A job's slot is given back
when its outcome is written. Nothing else counts what runs against what may.
"""

from __future__ import annotations

import trio


class Slots:
    """`count` slots, all free at first."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._taken = 0
        self._news = trio.Event()

    def __repr__(self) -> str:
        return f"<Slots: {self.free} of {self.count} free>"

    @property
    def free(self) -> int:
        """How many can be taken now."""
        return self.count - self._taken

    def take(self, most: int) -> int:
        """Take up to `most`, and no more than are free; how many that were."""
        taken = min(most, self.count - self._taken)
        self._taken += taken
        return taken

    def give_back(self, count: int = 1) -> None:
        """Some that were taken are free again."""
        if count:
            self._taken -= count
            self._news.set()

    def wake(self) -> None:
        """Have who waits look around once, slots or not."""
        self._news.set()

    async def wait(self) -> None:
        """Until some are given back or `wake` is called. What came before the call isn't waited for, so look first."""
        if self._news.is_set():
            self._news = trio.Event()
        await self._news.wait()
