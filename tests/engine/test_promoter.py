from __future__ import annotations

import pytest
import trio

from trioworkers import Job
from trioworkers.broker.contract import Due
from trioworkers.broker.fake import FakeBroker
from trioworkers.engine.maintenance import Promoter
from trioworkers.send import Send
from trioworkers.wire.dialect import Dialect


class Counting(FakeBroker):
    looks = 0

    async def due(self, limit: int, ticks: int = 0, *, look: bool = True) -> Due:
        self.looks += 1
        return await super().due(limit, ticks, look=look)


@pytest.mark.parametrize(("is_idle", "looks"), [(False, 50), (True, 20)])
async def test_looks_once_a_second_and_less_often_while_nothing_runs(autojump_clock: object, is_idle: bool, looks: int):
    broker = Counting({"q": 1})
    with trio.move_on_after(50):
        await Promoter(broker, is_idle=lambda: is_idle).run()
    assert looks <= broker.looks <= looks + 2


async def test_promotes_at_the_very_moment_also_while_nothing_runs(autojump_clock: object):
    broker = FakeBroker({"q": 1})
    began_at = trio.current_time()
    await broker.send([Send(Job("q", "Later"), 6.3, None)])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Promoter(broker, is_idle=lambda: True).run)
        while not broker.queues.get("q"):
            await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert 6.29 < trio.current_time() - began_at < 6.4


async def test_payload_that_nobody_foresaw_is_its_own_trouble_alone(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
):
    def promoted(self: Dialect, payload: bytes, now_s: float) -> bytes:
        if b"odd" in payload:
            raise OverflowError(payload)
        return payload

    monkeypatch.setattr(Dialect, "promoted", promoted)
    broker = FakeBroker({"q": 1})
    await broker.send([Send(Job("q", name), 1.0, None) for name in ("before", "odd", "after")])
    with trio.move_on_after(5):
        await Promoter(broker).run()
    assert [b"odd" in payload for payload in broker.sets["dead"]] == [True]
    assert len(broker.queues["q"]) == 2


async def test_job_of_another_queue_is_moved_as_it_came(autojump_clock: object):
    broker = FakeBroker({"q": 1})
    payloads = [b'{"queue":"low prio","class":7,"jid":[],"args":{},"retry":"x","n":1.10}', b'{"queue":"","class":"A"}']
    for payload in payloads:
        broker.sets["schedule"].add(payload, 0.0)
    await Promoter(broker).promote()
    (moved,) = broker.queues["low prio"]
    assert moved.startswith(payloads[0][:-1])
    assert list(broker.sets["dead"]) == [payloads[1]]
