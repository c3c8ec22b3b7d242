"""Slots: how many jobs may run at once, as a thing of its own, from which one intake draws, or several.

Who fetches takes slots first, and fetches no more than it took; what stays empty it gives back at once. A job's slot is given back
when its outcome is written. Nothing else counts what runs against what may, and nothing else knows whose slot it is.

Where several draw, slots that become free go to those who wait for some, in the order that was told: strictly the first rank first, or by
weight. Weights are exact over each round of as many slots as they add up to: of all who wait the one that is most behind gets the
next (the smooth weighted round robin of nginx). Who does not wait is owed nothing: an empty queue saves up no claim. Equal weights are
a round robin.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import trio

Order = Literal["weighted", "strict"]
PARTS = 2
"""In so many parts each draw's even share of all slots is dealt out: see `Slots._at_once`."""


class Slots:
    """`count` slots, all free at first. `order`: whose turn it is when several draws wait for some; strict is that of their ranks."""

    def __init__(self, count: int, order: Order = "weighted") -> None:
        self.count = count
        self._order = order
        self._taken = 0
        self._draws: list[Draw] = []
        self.waiting = 0
        """How many draws wait for some; for `Draw`."""

    def __repr__(self) -> str:
        return f"<Slots: {self.free} of {self.count} free>"

    @property
    def free(self) -> int:
        """How many nobody has taken. Some of them may be promised."""
        return self.count - self._taken

    def draw(self, weight: int = 1, rank: int | None = None) -> Draw:
        """One who draws from them. `weight`: its share under full load. Raises ValueError if that is no whole number from 1 on.

        `rank`: its place in a strict order, behind all others if it isn't told. Those of one rank, say one queue in several Redises, share by weight.
        """
        if isinstance(weight, bool) or not isinstance(weight, int) or weight < 1:
            raise ValueError(f"a weight is a whole number from 1 on, not {weight!r:.80}")
        if self._order == "weighted":
            rank = 0
        elif rank is None:
            rank = max((each.rank for each in self._draws), default=-1) + 1
        self._draws.append(Draw(self, weight, rank))
        return self._draws[-1]

    @property
    def is_shared(self) -> bool:
        """Whether several draw."""
        return len(self._draws) > 1

    @property
    def are_plenty(self) -> bool:
        """Whether each draw could hold one, and none would miss it."""
        return not self.waiting and self.free >= len(self._draws)

    def _call_in(self) -> None:
        """Somebody waits for slots: who holds one without a job lets go of it."""
        if self.free <= 0:
            for each in self._draws:
                each.idle()

    def _take(self, draw: Draw, most: int) -> int:
        promised = 0 if len(self._draws) == 1 else sum(each.promised for each in self._draws) - draw.promised
        taken = max(0, min(most, self.free - promised))
        self._taken += taken
        unwanted, draw.promised = draw.promised > taken, 0
        if unwanted:
            self._hand_out()
        return taken

    def _give_back(self, count: int) -> None:
        self._taken -= count
        if self.waiting:
            self._hand_out()

    def _hand_out(self) -> None:
        """Promise what is free to those who wait, in their order."""
        waiting = [each for each in self._draws if each.waits or each.is_hungry]
        if not waiting:
            return
        if self._order == "strict":
            first = min(each.rank for each in waiting)
            waiting = [each for each in waiting if each.rank == first]
        left, most = self.free - sum(each.promised for each in self._draws), self._at_once()
        while left > 0:
            count = min(left, most)
            self._next(waiting, count).promise(count)
            left -= count

    def _at_once(self) -> int:
        """How many go to one before the next has its turn. Were a thousand dealt out one by one, each would fetch ever fewer at a time, and its jobs would end in ever smaller groups."""
        return max(1, self.count // (PARTS * len(self._draws)))

    def _next(self, waiting: Sequence[Draw], count: int) -> Draw:
        if len(waiting) == 1:
            return waiting[0]
        for each in waiting:
            each.owed += each.weight * count
        chosen = max(waiting, key=lambda each: each.owed)
        chosen.owed -= sum(each.weight for each in waiting) * count
        return chosen


def _nothing() -> None:
    pass


class Draw:
    """One intake's way to slots that others may draw from, too. `rank`, `waits`, `promised`, `owed`, `is_hungry`: for `Slots`, whose turn it is."""

    def __init__(self, slots: Slots, weight: int, rank: int) -> None:
        self._slots = slots
        self.weight = weight
        self.rank = rank
        self.waits = False
        self.promised = 0
        self.owed = 0
        self.is_hungry = False
        self.idle: Callable[[], None] = _nothing
        """Has who holds a slot while it waits for a job let go of it; to be set by who does so."""
        self._news = trio.Event()

    def __repr__(self) -> str:
        return f"<Draw of {self._slots!r}>"

    @property
    def count(self) -> int:
        """How many slots there are in all."""
        return self._slots.count

    @property
    def is_shared(self) -> bool:
        """Whether others draw, too."""
        return self._slots.is_shared

    @property
    def are_plenty(self) -> bool:
        """Whether one may be held while nothing is to be done."""
        return self._slots.are_plenty

    @property
    def free(self) -> int:
        """How many nobody has taken."""
        return self._slots.free

    def be_hungry(self, hungry: bool) -> None:
        """Whether there is more to be had than was taken: then our turn counts also while we fetch, and don't wait for slots."""
        if hungry != self.is_hungry:
            self.is_hungry = hungry
            self._slots.waiting += 1 if hungry else -1

    def take(self, most: int) -> int:
        """Take up to `most`, and no more than are free and not promised to others; how many that were."""
        return self._slots._take(self, most)  # noqa: SLF001 - its other half

    def give_back(self, count: int = 1) -> None:
        """Some that were taken are free again."""
        if count:
            self._slots._give_back(count)  # noqa: SLF001 - as above

    def wake(self) -> None:
        """Have who waits look around once, slots or not."""
        self._news.set()

    async def wait(self, *, wanted: bool = True) -> None:
        """Until some are promised to us or `wake` is called; then `take` them. What came before the call isn't waited for, so look first.

        `wanted=False`: none is promised to us, which others could use.

        Cancelled, what was promised stays so until `take` or `leave`.
        """
        if self._news.is_set():
            self._news = trio.Event()
        if not wanted:
            self.leave()
            await self._news.wait()
            return
        self.waits = True
        self._slots.waiting += 1
        if self._slots.is_shared:
            self._slots._call_in()  # noqa: SLF001 - as above
        try:
            await self._news.wait()
        finally:
            self.waits = False
            self._slots.waiting -= 1

    def leave(self) -> None:
        """Nothing more is wanted for now: what was promised to us is for the others."""
        self.be_hungry(hungry=False)
        self.promised = 0
        self._slots._hand_out()  # noqa: SLF001 - as above

    def promise(self, count: int) -> None:
        """So many that are free are ours if we take them next."""
        self.promised += count
        self._news.set()
