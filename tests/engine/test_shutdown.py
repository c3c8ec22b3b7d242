"""The order of a worker's end, and its times, on the virtual clock."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from trioworkers.engine.delivery import RUNNING, SETTLING, Delivery
from trioworkers.engine.shutdown import CANCELS_PER_ROUND, FLUSH_S, GRACE_S, LATE_S, SHOWN, TURNS, Shutdown


class Jobs:
    """What runs: `stubborn` doesn't end when it is cancelled."""

    def __init__(self, *, stubborn: bool = False) -> None:
        self.story: list[tuple[str, float]] = []
        self.delivery = Delivery("q", b"{}", 0.0, state=RUNNING)
        self.stubborn = stubborn
        self.shutdown = Shutdown(25.0, lambda: [self.delivery], self.put_back)

    def note(self, what: str) -> None:
        self.story.append((what, round(trio.current_time() - self.began, 6)))

    def put_back(self, delivery: Delivery) -> None:
        delivery.become(SETTLING)
        self.note("put back")

    async def depart(self) -> None:
        self.note("depart")

    async def run(self) -> None:
        self.began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.shutdown.enforce, self.depart)
            await self.shutdown.told.wait()
            while self.delivery.cancellation is None:
                await trio.sleep(0.01)
            self.note("cancelled")
            if not self.stubborn:
                self.shutdown.drained()


async def test_what_ends_when_it_is_cancelled_is_waited_for(autojump_clock: object, nursery: trio.Nursery):
    jobs = Jobs()
    nursery.start_soon(jobs.run)
    await trio.sleep(1)
    jobs.shutdown.stop(2.0)
    with trio.fail_after(60):
        while not jobs.story:
            await trio.sleep(0.5)
    assert [what for what, _ in jobs.story] == ["cancelled"]
    assert jobs.story[0][1] == pytest.approx(3.0, abs=0.02)


async def test_what_does_not_end_is_put_back_and_left(autojump_clock: object):
    jobs = Jobs(stubborn=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(jobs.run)
        await trio.sleep(1)
        jobs.shutdown.stop(2.0)
    assert [what for what, _ in jobs.story] == ["cancelled", "put back", "depart"]
    assert jobs.story[1][1] == pytest.approx(3.0 + GRACE_S, abs=0.02)


@pytest.mark.parametrize("ends", [True, False])
def test_nobody_is_left_behind_who_ends_as_soon_as_it_has_had_its_turns(ends: bool):
    """The event loop is late: the first turn of all who are cancelled takes longer than the grace, and they need some more."""
    clock = trio.testing.MockClock()
    deliveries = [Delivery("q", b"{}", 0.0, state=RUNNING) for _ in range(SHOWN + 30)]
    put_back: list[Delivery] = []
    departed: list[int] = []

    async def job(delivery: Delivery) -> None:
        with trio.CancelScope() as delivery.scope:
            await trio.sleep_forever()
        clock.jump(1.1 * GRACE_S / len(deliveries))
        if not ends:
            await trio.sleep_forever()
        for _ in range(TURNS - 2):
            await trio.lowlevel.checkpoint()
        delivery.become(SETTLING)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for delivery in deliveries:
                nursery.start_soon(job, delivery)
            await trio.testing.wait_all_tasks_blocked()
            shutdown = Shutdown(0.0, lambda: deliveries, put_back.append)
            shutdown.stop()

            async def depart() -> None:
                departed.append(len(put_back))

            await shutdown.enforce(depart)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=clock)
    assert departed == ([] if ends else [len(deliveries)])


@pytest.mark.parametrize(
    ("turn_s", "in_turn"),
    [(0.01, False), (1.0, False), (0.01, True)],
    ids=["most are not cancelled in time", "nearly all are not", "most do not end in time"],
)
def test_a_late_event_loop_puts_back_whom_it_does_not_get_to_and_goes_on_then(
    turn_s: float, in_turn: bool, caplog: pytest.LogCaptureFixture
):
    """Each that is cancelled takes a while to end, and `in_turn` one goes after the other. Else the process would end before the jobs are back in their queue."""
    clock = trio.testing.MockClock()
    deliveries = [Delivery("q", b"{}", 0.0, state=RUNNING) for _ in range(10 * CANCELS_PER_ROUND)]
    ended: list[Delivery] = []
    departed: list[tuple[float, int, int]] = []

    async def job(delivery: Delivery, rounds: int) -> None:
        with trio.CancelScope() as delivery.scope:
            await trio.sleep_forever()
        for _ in range(rounds):
            await trio.lowlevel.checkpoint()
        clock.jump(turn_s)
        ended.append(delivery)
        if not delivery.is_decided:
            delivery.become(SETTLING)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number, delivery in enumerate(deliveries):
                nursery.start_soon(job, delivery, number if in_turn else 0)
            await trio.testing.wait_all_tasks_blocked()
            shutdown = Shutdown(0.0, lambda: deliveries, lambda delivery: delivery.become(SETTLING))
            shutdown.stop()
            began = trio.current_time()

            async def depart() -> None:
                departed.append((trio.current_time() - began, len(ended), sum(each.is_decided for each in deliveries)))

            await shutdown.enforce(depart)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

    trio.run(main, clock=clock)
    [(after_s, had_ended, decided)] = departed
    assert GRACE_S + LATE_S <= after_s <= GRACE_S + LATE_S + 2 * CANCELS_PER_ROUND * turn_s
    assert 0 < had_ended <= 2 * CANCELS_PER_ROUND
    assert decided == len(ended) == len(deliveries)
    assert f"{len(deliveries) - had_ended - SHOWN} more jobs are put back" in caplog.text
    assert "does not stop" not in caplog.text


async def test_later_stop_only_brings_the_deadline_nearer(autojump_clock: object):
    jobs = Jobs()
    assert (jobs.shutdown.stop(), jobs.shutdown.stop(30.0), jobs.shutdown.stop(5.0)) == (25.0, None, 5.0)
    assert jobs.shutdown.deadline == trio.current_time() + 5.0


async def test_intake_ends_with_quiet_even_if_it_begins_later(autojump_clock: object):
    shutdown = Jobs().shutdown
    with trio.fail_after(1):
        with shutdown.intake():
            shutdown.quiet()
            await trio.sleep_forever()
        with shutdown.intake():
            await trio.sleep_forever()
    assert trio.current_time() == 0


async def test_departure_without_redis_is_bounded_and_said(autojump_clock: object):
    shutdown = Jobs().shutdown
    shutdown.stop(0.0)
    began = trio.current_time()
    assert not await shutdown.depart(trio.sleep_forever, trio.sleep_forever)
    assert trio.current_time() - began == pytest.approx(GRACE_S + 2 * FLUSH_S)
    assert shutdown.gone.is_set()
