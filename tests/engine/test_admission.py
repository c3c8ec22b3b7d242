"""What becomes of what was fetched and can't be looked at before it starts."""

from __future__ import annotations

from collections import Counter

import pytest
import trio

from trioworkers.broker.fake import FakeBroker
from trioworkers.engine.admission import Admission
from trioworkers.engine.delivery import Delivery
from trioworkers.errors import Unavailable
from trioworkers.outcome import REQUEUE, Outcome
from trioworkers.wire.job import jid_of


def fetched(count: int) -> list[Delivery]:
    return [Delivery("q", b'{"class":"A","args":[%d]}' % number, 0.0) for number in range(count)]


async def test_each_learns_how_many_workers_died_under_it():
    broker, deliveries = FakeBroker(), fetched(3)
    broker.crash_counts = Counter({jid_of(deliveries[1].payload): 2})
    admitted = await Admission(broker, lambda *_: None).admit(deliveries)
    assert [delivery.crashes for delivery in admitted] == [0, 2, 0]


@pytest.mark.parametrize("cancelled", [False, True])
async def test_what_cannot_be_looked_up_goes_back_to_its_queue(cancelled: bool):
    handed_in: list[tuple[Delivery, Outcome]] = []
    broker, deliveries = FakeBroker(), fetched(3)
    admission = Admission(broker, lambda delivery, outcome: handed_in.append((delivery, outcome)))
    if not cancelled:
        broker.fail_next(Unavailable("down"))
    with trio.CancelScope() as scope:
        if cancelled:
            scope.cancel()
            await admission.admit(deliveries)
        with pytest.raises(Unavailable):
            await admission.admit(deliveries)
    assert handed_in == [(delivery, REQUEUE) for delivery in deliveries]
