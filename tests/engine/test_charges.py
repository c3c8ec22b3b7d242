"""A worker that ends in good order because of a job charges that job: the third time buries it, and no neighbour with it."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
import trio
from servers import Server

from trioworkers import App, Client, Job, testing
from trioworkers.broker.contract import MAX_CRASHES_IN_COMPANY, Holder
from trioworkers.broker.fake import FakeBroker
from trioworkers.broker.moves import RedisBroker
from trioworkers.broker.redis.connection import connect
from trioworkers.broker.redis.link import Link
from trioworkers.engine.admission import Admission
from trioworkers.engine.delivery import Delivery
from trioworkers.engine.heartbeat import Heartbeat
from trioworkers.engine.maintenance import Reclaimer
from trioworkers.engine.quarantine import MAX_CRASHES
from trioworkers.engine.settler import Settler
from trioworkers.engine.upkeep import Upkeep
from trioworkers.failures import leaves
from trioworkers.outcome import Bury
from trioworkers.wire.decode import jid_of
from trioworkers.wire.keys import Keys


class Fleet:
    """Workers of one app, one after the other, until one is stopped by us."""

    def __init__(self, url: str, server: Server) -> None:
        self.server = server
        self.app = App(url, shutdown_timeout=0.3)
        self.starts: Counter[str] = Counter()
        self.ended: list[BaseException | None] = []

        @self.app.handler("q")
        async def wait(name: str) -> None:
            self.starts[name] += 1
            await trio.sleep(
                60 if self.starts[name] < MAX_CRASHES else 0.1
            )  # at first as long as it can be charged with

    def dead(self) -> list[str]:
        members = self.server.command("ZRANGE", "dead", 0, -1)
        assert isinstance(members, list)
        return [json.loads(member)["class"] for member in members]

    def live(self, *, until_dead: int = 1) -> None:
        """One worker's life; over by itself, or when so many are dead."""

        async def main() -> None:
            with trio.move_on_after(30) as patience:
                async with trio.open_nursery() as nursery:
                    worker = await nursery.start(self.app.serve)
                    while len(self.dead()) < until_dead and not worker.stopping:
                        await trio.sleep(0.05)
                    worker.stop()
            assert not patience.cancelled_caught, "the worker neither ended nor buried anything"

        try:
            trio.run(main)
        except BaseException as error:  # noqa: BLE001 - how a worker ends is what is looked at
            self.ended.append(error)
        else:
            self.ended.append(None)

    def push(self, *jobs: Job) -> None:
        async def send() -> None:
            async with Client(self.app.settings.redis_url) as client:
                await client.enqueue(*jobs)

        trio.run(send)


def expect_one_buried(fleet: Fleet, killer: str) -> None:
    assert fleet.dead() == [killer]
    members = fleet.server.command("ZRANGE", "dead", 0, -1)
    assert isinstance(members, list)
    assert json.loads(members[0])["error_class"] == "trioworkers.WorkerDied"
    assert [error is not None for error in fleet.ended] == [True] * MAX_CRASHES + [False]
    assert max(fleet.starts["a"], fleet.starts["b"]) <= MAX_CRASHES
    assert fleet.server.command("KEYS", "*:inprogress") == []


def test_job_that_spawns_a_failing_system_task_is_buried_in_the_end(redis_url: str, shared_server: Server):
    fleet = Fleet(redis_url, shared_server)

    @fleet.app.handler("q")
    async def kill() -> None:
        fleet.starts["kill"] += 1

        async def fail() -> None:
            raise ValueError("no")

        trio.lowlevel.spawn_system_task(fail)
        await trio.sleep_forever()

    fleet.push(Job("q", "wait", ["a"]), kill.job(), Job("q", "wait", ["b"]))
    for _ in range(MAX_CRASHES + 1):
        fleet.live()
    assert fleet.starts["kill"] == MAX_CRASHES
    assert all(isinstance(error, trio.TrioInternalError) for error in fleet.ended[:-1])
    expect_one_buried(fleet, "kill")


def test_job_that_breaks_a_part_of_its_worker_is_buried_in_the_end(
    redis_url: str, shared_server: Server, monkeypatch: pytest.MonkeyPatch
):
    """Whatever the mistake is: here one in what the heartbeat shows of it."""
    fleet = Fleet(redis_url, shared_server)
    fleet.app.configure(lease=1.5)
    beat = Heartbeat.beat

    async def broken(self: Heartbeat) -> object:
        if any(delivery.job_class == "kill" for delivery in self._running()):
            raise OverflowError("never thought of")
        return await beat(self)

    monkeypatch.setattr(Heartbeat, "beat", broken)

    @fleet.app.handler("q")
    async def kill() -> None:
        fleet.starts["kill"] += 1
        await trio.sleep_forever()

    fleet.push(Job("q", "wait", ["a"]), kill.job(), Job("q", "wait", ["b"]))
    for _ in range(MAX_CRASHES + 1):
        fleet.live()
    assert fleet.starts["kill"] == MAX_CRASHES
    assert all(error and OverflowError in map(type, leaves(error)) for error in fleet.ended[:-1])
    expect_one_buried(fleet, "kill")


def nursery_around(levels: int) -> trio.Nursery:
    """Of the worker's nurseries that a job runs in: the innermost one, which it may break for itself, is 0."""
    nursery = trio.lowlevel.current_task().parent_nursery
    for _ in range(levels):
        assert nursery is not None
        nursery = nursery.parent_task.parent_nursery
    assert nursery is not None
    return nursery


async def fail() -> None:
    raise ValueError("no")


@pytest.mark.parametrize("levels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("how", ["cancels", "breaks"])
def test_job_that_reaches_the_nurseries_of_its_worker_is_buried_in_the_end(
    redis_url: str, shared_server: Server, levels: int, how: str
):
    """Else its queue would be served no more, without a word; or the worker would end in good order, again and again."""
    fleet = Fleet(redis_url, shared_server)

    @fleet.app.handler("q")
    async def kill() -> None:
        fleet.starts["kill"] += 1
        if how == "cancels":
            nursery_around(levels).cancel_scope.cancel()
        else:
            nursery_around(levels).start_soon(fail)
        await trio.sleep_forever()

    fleet.push(Job("q", "wait", ["a"]), kill.job(), Job("q", "wait", ["b"]))
    for _ in range(MAX_CRASHES + 1):
        fleet.live()
    assert fleet.starts["kill"] == MAX_CRASHES
    expect_one_buried(fleet, "kill")


def test_job_whose_outcome_tears_what_writes_it_is_buried_in_the_end(
    redis_url: str, shared_server: Server, monkeypatch: pytest.MonkeyPatch
):
    """It has ended, and is never settled: it comes back with each end of its worker."""
    fleet = Fleet(redis_url, shared_server)
    write = Settler._write

    async def torn(self: Settler, group: list[Any]) -> None:
        if any(delivery.job_class == "kill" for delivery, _ in group):
            raise OverflowError("never thought of")
        await write(self, group)

    monkeypatch.setattr(Settler, "_write", torn)

    @fleet.app.handler("q")
    async def kill() -> None:
        fleet.starts["kill"] += 1

    fleet.push(Job("q", "wait", ["a"]), kill.job(), Job("q", "wait", ["b"]))
    for _ in range(
        2 * MAX_CRASHES
    ):  # where the machine is busy, what is left for the next worker to take over counts as well
        if not fleet.dead():
            fleet.live()
    assert fleet.dead() == ["kill"]
    assert fleet.starts["kill"] <= MAX_CRASHES


@pytest.mark.parametrize("process_id", [None, "w1"], ids=["another takes over", "the next of its name takes over"])
def test_end_that_is_cut_off_after_its_charge_is_charged_once(
    redis_url: str, shared_server: Server, monkeypatch: pytest.MonkeyPatch, process_id: str | None
):
    """Its list stays, and its lease runs out: for who takes that over it is the death of a worker. Charged by both, two ends would bury a job."""
    fleet = Fleet(redis_url, shared_server)
    fleet.app.configure(lease=1.5, process_id=process_id)

    async def cut_off(*_: object) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(Settler, "_write", cut_off)
    monkeypatch.setattr(Upkeep, "leave", cut_off)

    @fleet.app.handler("q")
    async def kill() -> None:
        fleet.starts["kill"] += 1
        nursery_around(2).cancel_scope.cancel()
        await trio.sleep_forever()

    fleet.push(kill.job())
    for _ in range(MAX_CRASHES + 1):
        if len(fleet.ended) == MAX_CRASHES:
            monkeypatch.undo()
        fleet.live()
    assert fleet.dead() == ["kill"]
    assert fleet.starts["kill"] == MAX_CRASHES


async def test_end_is_charged_once_and_only_under_its_lease(redis_url: str, shared_server: Server):
    holder, payload = Holder("owner", "lease of owner", 30_000), b'{"class":"A","args":[],"jid":"a"}'
    async with connect(redis_url, Link(redis_url)) as connection:
        ending = RedisBroker(connection, Keys(), holder)
        taking = RedisBroker(connection, Keys(), Holder("another", "lease of another", 30_000))
        reclaimer = Reclaimer(taking, connection.link, lease_s=1, beat_s=1)
        await ending.note_start("a", alone=False)
        await ending.note_start("charged", alone=True)  # a stranger's name for a job
        await ending.charge(["a"])  # who takes over may have charged it
        assert shared_server.command("EXISTS", "tw:crashes") == 0
        assert await taking.started("owner") == {"a": False, "charged": True}
        shared_server.command("SET", Keys().lease("owner"), "lease of owner")
        for _ in range(2):  # the reply of the first may have been lost
            await ending.charge(["a"])
        shared_server.command("DEL", Keys().lease("owner"))
        shared_server.command("LPUSH", ending.in_progress("q"), payload)
        assert await reclaimer.reclaim("owner", "q") == 1
        assert shared_server.command("HGETALL", "tw:crashes") == ["a", "1"]
        assert shared_server.command("LRANGE", "queue:q", 0, -1) == [payload.decode()]


def test_ordinary_stop_charges_nobody(redis_url: str, shared_server: Server):
    fleet = Fleet(redis_url, shared_server)
    fleet.push(Job("q", "wait", ["a"]))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            worker = await nursery.start(fleet.app.serve)
            while not fleet.starts:
                await trio.sleep(0.02)
            worker.stop()

    trio.run(main)
    assert shared_server.command("EXISTS", "tw:crashes") == 0
    assert shared_server.command("LLEN", "queue:q") == 1


async def test_what_was_charged_too_often_is_buried_instead_of_started(autojump_clock: object):
    app, ran = App(), []

    @app.handler("q")
    async def note(number: int) -> None:
        ran.append(number)

    async with testing.run(app) as test:
        jobs = [note.job(number) for number in range(3)]
        test._broker.crash_counts[jobs[1].jid] = MAX_CRASHES_IN_COMPANY
        await test.enqueue(*jobs)
        await test.drain()
        assert sorted(ran) == [0, 2]
        assert [job.jid for job in test.dead] == [jobs[1].jid]
        await test.enqueue(note.job(3))
        await test.drain()
        assert test._broker.crash_counts == {}


async def test_fake_and_real_charge_a_jid_once_however_often_it_runs():
    broker = FakeBroker()
    await broker.charge(["a", "a", "b"])
    assert broker.crash_counts == {"a": 1, "b": 1}
    deliveries = [Delivery("q", b'{"class":"A","args":[],"jid":"a"}', 0.0)]
    broker.crash_counts["a"] = MAX_CRASHES_IN_COMPANY
    settler = Settler(broker, lambda _: None)
    assert await Admission(broker, settler, None).admit(deliveries, suspects=True) == []
    assert isinstance(settler._waiting[0][1], Bury)
    assert jid_of(deliveries[0].payload) == "a"
