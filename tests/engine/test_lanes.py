"""Jobs share a task only as long as none of them waits, and see nothing of each other."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

import pytest
import trio
import trio.testing

from trioworkers.engine.delivery import Delivery, State
from trioworkers.engine.lanes import Lanes
from trioworkers.outcome import ACKNOWLEDGE, Bury, Outcome, Requeue


class Unequal:
    """Can't be compared, like an array."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("ambiguous")

    __hash__ = object.__hash__


seen: ContextVar[object] = ContextVar("seen")


def fresh(count: int) -> list[Delivery]:
    return [Delivery("q", b"{}", 0.0) for _ in range(count)]


class Jobs:
    """What runs in the lanes: `waits` says which of them wait, by number; they do so until `go` is set."""

    def __init__(self, waits: set[int] | None = None) -> None:
        self.waits = set() if waits is None else waits
        self.go = trio.Event()
        self.started: list[Delivery] = []
        self.task_of: dict[Delivery, trio.lowlevel.Task] = {}
        self.ended: list[Delivery] = []
        self.submitted: list[tuple[Delivery, Outcome]] = []
        self.lanes = Lanes(self.run, lambda *submitted: self.submitted.append(submitted), "job on q")

    async def run(self, delivery: Delivery) -> Outcome:
        self.task_of[delivery] = trio.lowlevel.current_task()
        assert delivery.task is self.task_of[delivery]
        self.started.append(delivery)
        if len(self.started) - 1 in self.waits:
            await self.go.wait()
        self.ended.append(delivery)
        return ACKNOWLEDGE

    def tasks(self, deliveries: list[Delivery]) -> int:
        return len({self.task_of[delivery] for delivery in deliveries})


async def test_jobs_that_do_not_wait_run_in_one_task():
    jobs, deliveries = Jobs(), fresh(20)
    async with trio.open_nursery() as nursery:
        await jobs.lanes.start(deliveries, nursery)
        assert jobs.ended == deliveries
        assert not any(delivery.task for delivery in deliveries)
    assert jobs.tasks(deliveries) == 1


async def test_job_that_waits_holds_up_none_behind_it():
    jobs, deliveries = Jobs(waits={3, 7}), fresh(20)
    async with trio.open_nursery() as nursery:
        await jobs.lanes.start(deliveries, nursery)
        await trio.testing.wait_all_tasks_blocked()
        assert len(jobs.ended) == 18
        assert jobs.tasks([each for each in deliveries if each not in jobs.ended]) == 2
        jobs.go.set()
    assert len(jobs.ended) == 20


async def test_jobs_that_wait_each_have_a_task_and_the_next_ones_get_theirs_at_once():
    jobs = Jobs(waits=set(range(40)))
    first, second = fresh(20), fresh(20)
    async with trio.open_nursery() as nursery:
        await jobs.lanes.start(first, nursery)
        assert len(jobs.started) == 1
        await trio.testing.wait_all_tasks_blocked()
        assert len(jobs.started) == 20
        await jobs.lanes.start(second, nursery)
        assert len(jobs.started) == 40
        assert jobs.tasks(first + second) == 40
        jobs.go.set()


async def test_when_jobs_wait_no_more_they_share_a_task_again():
    jobs = Jobs(waits=set(range(20)))
    async with trio.open_nursery() as nursery:
        await jobs.lanes.start(fresh(20), nursery)
        await trio.testing.wait_all_tasks_blocked()
        jobs.go.set()
        await jobs.lanes.start(fresh(20), nursery)
        third = fresh(20)
        await jobs.lanes.start(third, nursery)
    assert jobs.tasks(third) == 1


async def test_lone_job_starts_without_its_lanes_being_watched():
    jobs = Jobs(waits={0, 1, 2})
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            await jobs.lanes.start(fresh(1), nursery)
        await trio.testing.wait_all_tasks_blocked()
        assert len(jobs.started) == 3
        jobs.go.set()


@pytest.mark.parametrize("kind", [object, list, Unequal])
async def test_what_a_job_leaves_in_context_variables_the_next_one_does_not_see(kind: Callable[[], object]):
    found = []
    before = kind()

    async def run(_: Delivery) -> Outcome:
        found.append(seen.get())
        seen.set(kind())
        return ACKNOWLEDGE

    seen.set(before)
    async with trio.open_nursery() as nursery:
        await Lanes(run, lambda *_: None, "job on q").start(fresh(10), nursery)
    assert len(found) == 10
    assert all(each is before for each in found)


@pytest.mark.parametrize("waits", [set(), {0}, {5}])
async def test_cancelled_at_their_start_all_still_run_or_are_put_back(waits: set[int]):
    jobs = Jobs(waits)
    async with trio.open_nursery() as nursery:
        nursery.cancel_scope.cancel()
        await jobs.lanes.start(fresh(10), nursery)
    assert len(jobs.started) == len(jobs.submitted) == 10
    assert sum(outcome == Requeue() for _, outcome in jobs.submitted) == len(waits)


async def test_what_was_put_back_before_it_began_does_not_run_here():
    jobs, deliveries = Jobs(waits={0}), fresh(3)
    async with trio.open_nursery() as nursery:
        await jobs.lanes.start(deliveries[:1], nursery)
        await trio.testing.wait_all_tasks_blocked()
        deliveries[1].state = State.SETTLING  # as who abandons it marks it
        await jobs.lanes.start(deliveries[1:], nursery)
        jobs.go.set()
    assert jobs.ended == [deliveries[2], deliveries[0]]
    assert [delivery for delivery, _ in jobs.submitted] == [deliveries[2], deliveries[0]]


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
async def test_whatever_escapes_an_attempt_is_that_jobs_trouble_alone(kind: type[BaseException]):
    """A trace function that a job sets may raise in code of ours, behind the boundary of its job."""
    jobs, deliveries = Jobs(), fresh(3)

    async def run(delivery: Delivery) -> Outcome:
        if delivery is deliveries[1]:
            raise kind
        return await jobs.run(delivery)

    lanes = Lanes(run, lambda *submitted: jobs.submitted.append(submitted), "job on q")
    async with trio.open_nursery() as nursery:
        await lanes.start(deliveries, nursery)
    assert [type(outcome) for _, outcome in jobs.submitted] == [type(ACKNOWLEDGE), Bury, type(ACKNOWLEDGE)]


async def test_outcome_is_handed_in_though_it_is_torn_once():
    """A profile function that a job sets may raise where its outcome is handed in; Python then calls it no more."""
    jobs, deliveries = Jobs(), fresh(3)

    def submit(delivery: Delivery, outcome: Outcome) -> None:
        if delivery is deliveries[1] and delivery not in torn:
            torn.append(delivery)
            raise SystemExit(3)
        jobs.submitted.append((delivery, outcome))

    torn: list[Delivery] = []
    async with trio.open_nursery() as nursery:
        await Lanes(jobs.run, submit, "job on q").start(deliveries, nursery)
    assert jobs.submitted == [(delivery, ACKNOWLEDGE) for delivery in deliveries]
