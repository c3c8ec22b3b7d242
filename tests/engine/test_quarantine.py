"""Suspects take turns, and a turn is never lost with the one who had it."""

from __future__ import annotations

import trio

from trioworkers.broker.fake import FakeBroker
from trioworkers.engine.quarantine import HEAD_START_S, Quarantine
from trioworkers.errors import Superseded


async def test_the_next_waits_for_the_end_of_the_one_before_or_for_its_head_start(autojump_clock: object):
    quarantine, began = Quarantine(FakeBroker()), trio.current_time()
    short, long = trio.Event(), trio.Event()
    await quarantine.enter("a", short)
    short.set()
    await quarantine.enter("b", long)
    assert trio.current_time() == began
    await quarantine.enter("c", trio.Event())
    assert trio.current_time() - began == HEAD_START_S


async def test_each_further_crash_means_more_time_alone(autojump_clock: object):
    quarantine, began = Quarantine(FakeBroker()), trio.current_time()
    for crashes, alone_s in ((2, 1.0), (3, 4.0), (5, 64.0)):
        await quarantine.enter(f"a{crashes}", trio.Event(), crashes)
        began = trio.current_time()
        await quarantine.enter(f"b{crashes}", finished := trio.Event(), crashes)
        assert trio.current_time() - began == alone_s * HEAD_START_S
        finished.set()


async def test_turn_of_who_is_cancelled_or_refused_is_the_next_ones(autojump_clock: object):
    broker = FakeBroker()
    quarantine = Quarantine(broker)
    await quarantine.enter("a", trio.Event())
    with trio.move_on_after(HEAD_START_S / 2) as waiting:
        await quarantine.enter("b", trio.Event())
    assert waiting.cancelled_caught
    broker.fail_next(Superseded("another"))
    try:
        await quarantine.enter("c", trio.Event())
    except Superseded:
        pass
    else:
        raise AssertionError
    with trio.fail_after(HEAD_START_S * 2):
        await quarantine.enter("d", trio.Event())
    assert broker.in_quarantine == {"a", "d"}
