"""How outcomes are grouped; what becomes of each is in `test_jobs.py` and `broker/`."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
import trio.testing

from trioworkers.broker.contract import Settlement
from trioworkers.broker.fake import FakeBroker
from trioworkers.engine.delivery import Delivery
from trioworkers.engine.settler import GONE, Settler
from trioworkers.outcome import ACKNOWLEDGE, REQUEUE, Acknowledge, Bury, Discard, Outcome, Retry
from trioworkers.send import Send
from trioworkers.wire.job import Job


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


@pytest.mark.parametrize(
    ("is_read", "has_started", "said"),
    [
        (
            False,
            False,
            "job without id (unreadable) is no longer ours: another worker took it over; its requeue is not written",
        ),
        (
            True,
            False,
            "job j (A) is no longer ours: it waits for its limit or lock, or another worker took it over; its requeue is not written",
        ),
        (True, True, "job j (A) is no longer ours: another worker took it over; its requeue is not written"),
    ],
    ids=["not read", "read", "started"],
)
async def test_log_says_where_a_job_may_be_that_is_in_our_list_no_more(
    autojump_clock: object, caplog: pytest.LogCaptureFixture, is_read: bool, has_started: bool, said: str
):
    """Before it starts it may have left by our own step: to wait for its limit."""

    class Gone(FakeBroker):
        async def settle(self, number: int, group: Sequence[Settlement], cleared: Sequence[str] = ()) -> dict[int, str]:
            return {0: GONE}

    delivery = Delivery("q", b"{}", 0.0)
    delivery.job = Job("q", "A", jid="j") if is_read else None
    if has_started:
        delivery.wait()
    settler = Settler(Gone(), lambda _: None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(settler.run)
        settler.submit(delivery, REQUEUE)
        await settler.flushed()
        nursery.cancel_scope.cancel()
    assert [record.getMessage() for record in caplog.records] == [said]


# ── what can't be written ──────────────────────────────────────────────────────────────────────────────────────────────


class Refusing(FakeBroker):
    """Writes all but some: `problems` of those payloads; what is in `unmade` has no form in bytes at all."""

    def __init__(self) -> None:
        super().__init__()
        self.problems: dict[bytes, str] = {}
        self.unmade: list[type] = []
        self.groups: list[list[bytes]] = []

    async def settle(self, number: int, group: Sequence[Settlement], cleared: Sequence[str] = ()) -> dict[int, str]:
        if any(type(each.outcome) in self.unmade for each in group):
            raise TypeError("no form in bytes")
        self.groups.append([each.payload for each in group])
        fit = [each for each in group if each.payload not in self.problems]
        await super().settle(number, fit, cleared)
        return {index: self.problems[each.payload] for index, each in enumerate(group) if each.payload in self.problems}


async def settled(broker: FakeBroker, outcomes: dict[bytes, Outcome], seconds: float = 60) -> list[bytes]:
    """The payloads whose slots are free after a while."""
    done: list[bytes] = []
    settler = Settler(broker, lambda deliveries: done.extend(each.payload for each in deliveries))
    broker.lists["q", "fake"] = list(outcomes)
    for payload, outcome in outcomes.items():
        settler.submit(Delivery("q", payload, 0.0), outcome)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(settler.run)
        await trio.sleep(seconds)
        nursery.cancel_scope.cancel()
    return sorted(done)


def failing(payload: bytes) -> Acknowledge:
    return Acknowledge((Send(Job("out", "A")),), instead=lambda problem: Retry(payload + problem.encode(), 15))


async def test_success_whose_follow_up_is_refused_for_a_while_is_the_jobs_failure(autojump_clock: object):
    class Once(Refusing):
        """Refuses the success, and takes what comes instead."""

        async def settle(self, number: int, group: Sequence[Settlement], cleared: Sequence[str] = ()) -> dict[int, str]:
            success = any(isinstance(each.outcome, Acknowledge) and each.outcome.sends for each in group)
            self.problems = {b"1": "WRONGTYPE"} if success else {}
            return await super().settle(number, group, cleared)

    broker = Once()
    assert await settled(broker, {b"1": failing(b"1"), b"2": ACKNOWLEDGE}) == [b"1", b"2"]
    assert list(broker.sets["retry"]) == [b"1WRONGTYPE"]


async def test_what_may_go_away_by_itself_is_waited_for(autojump_clock: object):
    broker = Refusing()
    broker.problems = {b"1": "OOM command not allowed when used memory > 'maxmemory'"}
    assert await settled(broker, {b"1": failing(b"1"), b"2": ACKNOWLEDGE}) == [b"2"]


async def test_outcome_without_a_form_keeps_no_other_back(autojump_clock: object):
    broker = Refusing()
    broker.unmade = [Acknowledge]
    outcomes = {b"1": failing(b"1"), b"2": Discard(), b"3": Retry(b"3+", 5)}
    assert await settled(broker, outcomes) == [b"1", b"2", b"3"]
    assert sorted(broker.sets["retry"]) == [b"1TypeError: no form in bytes", b"3+"]


async def test_slot_of_what_can_never_be_written_is_free_all_the_same(
    autojump_clock: object, caplog: pytest.LogCaptureFixture
):
    broker = Refusing()
    broker.unmade = [Retry, Bury]
    assert await settled(broker, {b"1": Retry(b"1+", 5), b"2": Discard()}) == [b"1", b"2"]
    assert "can't be written, ever" in caplog.text


async def test_outage_of_hours_is_said_once_a_minute(autojump_clock: object, caplog: pytest.LogCaptureFixture):
    broker = Refusing()
    broker.problems = {b"1": "WRONGTYPE"}
    assert await settled(broker, {b"1": Retry(b"1+", 5)}, seconds=600) == []
    assert 5 <= len(caplog.records) <= 15
    assert len(broker.groups) > 100
