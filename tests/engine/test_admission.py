"""What becomes of what was fetched and is not to start, or can't be looked at before it starts."""

from __future__ import annotations

from collections import Counter
from typing import Any

import attrs
import pytest
import trio

from trioworkers import FleetLimit
from trioworkers.broker.contract import MAX_CRASHES_IN_COMPANY
from trioworkers.broker.fake import FakeBroker
from trioworkers.engine.admission import Admission
from trioworkers.engine.delivery import Delivery
from trioworkers.engine.permits import Permits, Verdict
from trioworkers.errors import Unavailable
from trioworkers.jobs.limits import ClassLimit
from trioworkers.outcome import REQUEUE, Bury, Outcome, Snooze
from trioworkers.wire.decode import jid_of

CRM = FleetLimit("crm", concurrency=2)


@attrs.define
class Desk:
    """What was handed in, and what had left."""

    handed_in: list[tuple[Delivery, Outcome]] = attrs.Factory(list)
    dismissed: list[Delivery] = attrs.Factory(list)
    cleared: list[str] = attrs.Factory(list)

    def submit(self, delivery: Delivery, outcome: Outcome) -> None:
        self.handed_in.append((delivery, outcome))

    def dismiss(self, delivery: Delivery) -> None:
        self.dismissed.append(delivery)

    def clear(self, jid: str) -> None:
        self.cleared.append(jid)


def fetched(count: int, job_class: str = "A") -> list[Delivery]:
    return [Delivery("q", b'{"class":"%s","args":[%d]}' % (job_class.encode(), number), 0.0) for number in range(count)]


def admission(broker: FakeBroker, desk: Any, **limits: list[FleetLimit]) -> Admission:
    of_class = {name: [ClassLimit(limit) for limit in each] for name, each in limits.items()}
    return Admission(broker, desk, Permits("q", broker, of_class) if limits else None)


def in_progress(broker: FakeBroker, deliveries: list[Delivery]) -> None:
    broker.lists["q", "fake"] = [delivery.payload for delivery in deliveries][::-1]


async def test_each_learns_how_many_workers_died_under_it():
    broker, deliveries = FakeBroker(), fetched(3)
    broker.crash_counts = Counter({jid_of(deliveries[1].payload): 2})
    admitted = await admission(broker, Desk()).admit(deliveries, suspects=True)
    assert [delivery.crashes for delivery in admitted] == [None, 2, None]


async def test_job_under_which_workers_died_time_and_again_is_buried_and_charged_no_more():
    broker, deliveries, desk, told = FakeBroker(), fetched(2), Desk(), []
    jid = jid_of(deliveries[1].payload)
    broker.crash_counts = Counter({jid: MAX_CRASHES_IN_COMPANY})
    step = Admission(broker, desk, None, lambda *killer: told.append(killer))  # type: ignore[arg-type]
    assert await step.admit(deliveries, suspects=True) == deliveries[:1]
    [(buried, outcome)] = desk.handed_in
    assert (buried, type(outcome)) == (deliveries[1], Bury)
    assert (told, desk.cleared) == ([("q", deliveries[1].payload)], [jid])


@attrs.frozen
class Broken:
    """Permits of which nobody can tell: their keys are broken."""

    async def ask(self, deliveries: list[Delivery]) -> list[Verdict]:
        await trio.lowlevel.checkpoint()
        return [Verdict(starts=False, problem="WRONGTYPE")] * len(deliveries)


async def test_what_can_be_put_off_is_and_what_can_not_be_read_for_that_is_buried():
    desk, good, bad = Desk(), fetched(1)[0], Delivery("q", b"no job", 0.0)
    assert await Admission(FakeBroker(), desk, Broken()).admit([good, bad], suspects=False) == []  # type: ignore[arg-type]
    assert [(delivery, type(outcome)) for delivery, outcome in desk.handed_in] == [(good, Snooze), (bad, Bury)]


@pytest.mark.parametrize("cancelled", [False, True])
async def test_what_cannot_be_looked_up_goes_back_to_its_queue(cancelled: bool):
    desk = Desk()
    broker, deliveries = FakeBroker(), fetched(3)
    step = admission(broker, desk)
    if not cancelled:
        broker.fail_next(Unavailable("down"))
    with trio.CancelScope() as scope:
        if cancelled:
            scope.cancel()
            await step.admit(deliveries, suspects=True)
        with pytest.raises(Unavailable):
            await step.admit(deliveries, suspects=True)
    assert desk.handed_in == [(delivery, REQUEUE) for delivery in deliveries]


async def test_queue_without_limits_has_no_admission_of_its_own():
    assert not admission(FakeBroker(), Desk()).always
    assert admission(FakeBroker(), Desk(), A=[CRM]).always


async def test_some_start_with_their_permits_and_the_rest_has_left():
    broker, deliveries, desk = FakeBroker(["q"]), fetched(4), Desk()
    in_progress(broker, deliveries)
    admitted = await admission(broker, desk, A=[CRM]).admit(deliveries, suspects=False)
    assert admitted == deliveries[:2]
    assert [each.held.permit.limits for each in admitted if each.held and each.held.permit] == [("crm",)] * 2
    assert desk.dismissed == deliveries[2:]
    assert list(broker.sets["parked"]) == [each.payload for each in deliveries[2:]]


async def test_classes_without_a_limit_pass_by_with_no_call():
    broker, deliveries = FakeBroker(["q"]), fetched(3, "B")
    broker.fail_next(Unavailable("asked for nothing"))
    assert await admission(broker, Desk(), A=[CRM]).admit(deliveries, suspects=False) == deliveries
    assert [each.held for each in deliveries] == [None] * 3


@pytest.mark.parametrize("after", [False, True])
async def test_when_nobody_knows_whether_permits_were_given_all_go_back_and_let_them_go(after: bool):
    broker, deliveries, desk = FakeBroker(["q"]), fetched(3), Desk()
    in_progress(broker, deliveries)
    broker.fail_next(Unavailable("lost"), after=after)
    with pytest.raises(Unavailable):
        await admission(broker, desk, A=[CRM]).admit(deliveries, suspects=False)
    assert [outcome for _, outcome in desk.handed_in] == [REQUEUE] * 3
    assert all(delivery.held and delivery.held.permit for delivery in deliveries)


async def test_stop_in_the_midst_of_it_loses_nobody():
    broker, deliveries, desk = FakeBroker(["q"]), fetched(3), Desk()
    in_progress(broker, deliveries)
    with trio.CancelScope() as scope:
        scope.cancel()
        assert await admission(broker, desk, A=[CRM]).admit(deliveries, suspects=False) == deliveries[:2]
    assert desk.dismissed == deliveries[2:]


async def test_jobs_whose_limit_is_broken_are_tried_again_later(caplog: pytest.LogCaptureFixture):
    class Broken(FakeBroker):
        async def admit(self, *args: Any) -> list[int | str]:
            return ["WRONGTYPE"] * len(args[-1])

    deliveries, desk = fetched(2), Desk()
    step = admission(Broken(), desk, A=[CRM])
    for _ in range(2):
        assert await step.admit(deliveries, suspects=False) == []
    assert {type(outcome) for _, outcome in desk.handed_in} == {Snooze}
    assert [record.levelname for record in caplog.records] == ["ERROR"]


async def test_unreadable_and_expired_jobs_are_for_their_runner():
    broker, desk = FakeBroker(["q"]), Desk()
    deliveries = [Delivery("q", b"no json", 0.0), Delivery("q", b'{"class":"A","args":[],"tw_expires":1}', 0.0)]
    assert await admission(broker, desk, A=[CRM]).admit(deliveries, suspects=False) == deliveries
