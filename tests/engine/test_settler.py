"""How outcomes are grouped; what becomes of each is in `test_jobs.py` and `broker/`."""

from __future__ import annotations

from collections.abc import Sequence

import trio
import trio.testing

from trioworkers.broker.contract import Settlement
from trioworkers.broker.fake import FakeBroker
from trioworkers.engine.delivery import Delivery
from trioworkers.engine.settler import Settler
from trioworkers.outcome import ACKNOWLEDGE


class Desk:
    """A settler, and the sizes of the groups that it writes."""

    def __init__(self) -> None:
        self.groups: list[int] = []
        desk = self

        class Broker(FakeBroker):
            async def settle(
                self, number: int, group: Sequence[Settlement], cleared: Sequence[str] = ()
            ) -> dict[int, str]:
                desk.groups.append(len(group))
                return await super().settle(number, group, cleared)

        self.settler = Settler(Broker(), lambda _: None)

    def hand_in(self, count: int) -> None:
        for _ in range(count):
            self.settler.submit(Delivery("q", b"{}", 0.0), ACKNOWLEDGE)

    async def settle(self, bursts: Sequence[int], rounds_between: int) -> list[int]:
        """The groups in which these bursts of outcomes are written."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.settler.run)
            await trio.testing.wait_all_tasks_blocked()
            for count in bursts:
                self.hand_in(count)
                for _ in range(rounds_between):
                    await trio.lowlevel.checkpoint()
            await self.settler.flushed()
            nursery.cancel_scope.cancel()
        return self.groups


async def test_under_load_what_comes_within_a_few_rounds_is_written_together(autojump_clock: object):
    assert await Desk().settle([60] * 4, rounds_between=3) == [240]


async def test_so_much_is_enough(autojump_clock: object):
    groups = await Desk().settle([60] * 20, rounds_between=3)
    assert sum(groups) == 1200
    assert max(groups) < 500
    assert len(groups) <= 6


async def test_few_outcomes_wait_for_no_others(autojump_clock: object):
    groups = await Desk().settle([1] * 10, rounds_between=3)
    assert sum(groups) == 10
    assert len(groups) > 3
