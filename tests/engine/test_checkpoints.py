"""Checkpoints of fan-outs: what stands in the in-progress list while a job runs, and that nothing else is confused by it."""

from __future__ import annotations

import json
from collections import Counter

import pytest
import trio

from trioworkers import App, Context, RetryAfter, Unavailable, testing
from trioworkers.broker.fake import FakeBroker
from trioworkers.engine.audit import compare
from trioworkers.engine.delivery import Checkpoints, Delivery, State
from trioworkers.engine.settler import Settler
from trioworkers.outcome import Acknowledge


@pytest.fixture
def app() -> App:
    return App()


def in_progress(test: testing.RunningApp) -> list[list[str]]:
    """The names that are done, of each payload in progress."""
    return [json.loads(p).get("tw_done", []) for held in test._broker.lists.values() for p in held]


async def test_calls_that_are_done_are_recorded_at_once_and_share_a_write(autojump_clock: object, app: App):
    @app.handler("q")
    async def pay(ctx: Context) -> None:
        async with ctx.fan_out(checkpoint=True) as fan:
            for name in "abc":
                fan.start(name, trio.sleep, 1)
            fan.start("slow", trio.sleep, 5)

    async with testing.run(app) as test:
        await test.enqueue(pay.job())
        await trio.sleep(0.5)
        assert in_progress(test) == [[]]
        writes = 0
        settle = test._broker.settle

        async def counted(*args: object, **options: object) -> object:
            nonlocal writes
            writes += 1
            return await settle(*args, **options)  # type: ignore[arg-type]

        test._broker.settle = counted  # type: ignore[assignment, method-assign]
        await trio.sleep(1)
        assert [sorted(done) for done in in_progress(test)] == [["a", "b", "c"]]
        assert writes == 1
        await test.drain()
        assert (in_progress(test), test.completed) == ([], 1)


async def test_checkpoint_that_is_asked_for_waits_until_it_is_written(autojump_clock: object, app: App):
    seen: list[list[list[str]]] = []

    @app.handler("q")
    async def pay(ctx: Context) -> None:
        async with ctx.fan_out() as fan:
            fan.start("a", trio.sleep, 1)
            await trio.sleep(2)
            seen.append(in_progress(test))
            await fan.checkpoint()
            seen.append(in_progress(test))
            await fan.checkpoint()  # nothing new: nothing to wait for

    async with testing.run(app) as test:
        await test.enqueue(pay.job())
        await trio.sleep(0.5)
        test._broker.fail_next(Unavailable("down"), times=3)
        test._broker.fail_next(Unavailable("the reply is lost"), after=True)
        await test.drain()
        assert seen == [[[]], [["a"]]]
        assert test.completed == 1


async def test_job_without_progress_keeps_its_bytes(autojump_clock: object, app: App):
    @app.handler("q")
    async def wait(ctx: Context) -> None:
        async with ctx.fan_out(checkpoint=True) as fan:
            fan.start("a", trio.sleep_forever)
            await fan.checkpoint()

    async with testing.run(app) as test:
        await test.enqueue(wait.job())
        before = list(test._broker.queues["q"])
        await trio.sleep(1)
        assert list(*test._broker.lists.values()) == before


async def test_retry_after_a_checkpoint_goes_on_where_it_was(autojump_clock: object, app: App):
    made: list[str] = []

    async def call(name: str) -> None:
        await trio.sleep(1)
        made.append(name)

    @app.handler("q")
    async def pay(ctx: Context) -> None:
        async with ctx.fan_out(checkpoint=True, limit=1) as fan:
            for name in "abc":
                fan.start(name, call, name)
            if ctx.attempt == 1:
                await trio.sleep(2.5)
                raise RetryAfter(5)

    async with testing.run(app) as test:
        await test.enqueue(pay.job())
        await test.drain(retries=True)
        assert sorted(made) == ["a", "b", "c"]
        assert (test.jobs("q"), test.retries, test.dead) == ([], [], [])


# ── the settler ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Desk:
    """A settler at work, and one delivery whose progress the test decides."""

    def __init__(self) -> None:
        self.broker = FakeBroker(["q"])
        self.settled: list[Delivery] = []
        self.settler = Settler(self.broker, self.settled.extend)
        self.broker.lists["q", "fake"] = [b"0"]
        self.delivery = Delivery("q", b"0", 0.0)
        self.progress = b"0+a"
        self.delivery.checkpoints = Checkpoints(lambda: self.progress)

    @property
    def held(self) -> list[bytes]:
        return self.broker.lists["q", "fake"]


async def test_outcome_overtakes_a_checkpoint_that_waits(autojump_clock: object, nursery: trio.Nursery):
    desk = Desk()
    written = desk.settler.checkpoint(desk.delivery)
    desk.settler.submit(desk.delivery, Acknowledge())
    assert written.is_set()
    nursery.start_soon(desk.settler.run)
    await desk.settler.flushed()
    assert (desk.held, desk.settled) == ([], [desk.delivery])


async def test_outcome_of_a_job_that_ends_while_its_checkpoint_is_written_finds_the_new_payload(
    autojump_clock: object, nursery: trio.Nursery
):
    desk = Desk()
    desk.broker.fail_next(Unavailable("the reply is lost"), after=True)
    nursery.start_soon(desk.settler.run)
    written = desk.settler.checkpoint(desk.delivery)
    await trio.testing.wait_all_tasks_blocked()
    assert desk.held == [b"0+a"]
    assert not written.is_set()
    assert desk.delivery.forms() == (b"0", b"0+a")
    desk.progress = b"0+ab"
    desk.settler.submit(desk.delivery, desk.delivery.when_stopped())
    await desk.settler.flushed()
    assert written.is_set()
    assert (desk.held, desk.broker.queues) == ([], {"q": [b"0+ab"]})


async def test_checkpoint_that_is_asked_for_while_one_is_written_is_written_too(
    autojump_clock: object, nursery: trio.Nursery
):
    desk = Desk()
    desk.broker.fail_next(Unavailable("down"))
    nursery.start_soon(desk.settler.run)
    first = desk.settler.checkpoint(desk.delivery)
    await trio.testing.wait_all_tasks_blocked()
    desk.progress = b"0+ab"
    second = desk.settler.checkpoint(desk.delivery)
    assert second is not first
    await first.wait()
    await second.wait()
    assert desk.held == [b"0+ab"] == [desk.delivery.payload]


async def test_checkpoint_of_what_is_no_longer_ours_writes_nothing(autojump_clock: object, nursery: trio.Nursery):
    desk = Desk()
    desk.held.clear()
    nursery.start_soon(desk.settler.run)
    await desk.settler.checkpoint(desk.delivery).wait()
    assert desk.held == []
    assert desk.delivery.forms() == (b"0",)


# ── the audit ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def delivery(payload: bytes, *, settling: bool = False) -> Delivery:
    return Delivery("q", payload, 0.0, state=State.SETTLING if settling else State.RUNNING)


def test_audit_knows_a_payload_before_while_and_after_a_checkpoint():
    before, during, after = delivery(b"1"), delivery(b"2"), delivery(b"3")
    during.checkpoints = Checkpoints(lambda: None, writing=b"2+")
    held = {each: each.forms() for each in (before, during, after)}
    after.payload = b"3+"
    for found in ([b"1", b"2", b"3"], [b"1", b"2+", b"3+"], [b"1", b"2+", b"3"]):
        assert compare(held, Counter([*found, b"stray"])) == ([], Counter([b"stray"]))


def test_audit_tells_identical_payloads_apart_by_their_number():
    first, second = delivery(b"same"), delivery(b"same")
    held = {first: first.forms(), second: second.forms()}
    assert compare(held, Counter([b"same"] * 3)) == ([], Counter([b"same"]))
    missing, strays = compare(held, Counter([b"same"]))
    assert (len(missing), strays) == (1, Counter())
    first.payload = b"same+"
    assert compare(held, Counter([b"same", b"same+"])) == ([], Counter())


def test_audit_misses_first_whose_outcome_is_being_written():
    ending, running = delivery(b"same", settling=True), delivery(b"same")
    held = {each: each.forms() for each in (ending, running)}
    assert compare(held, Counter([b"same"])) == ([ending], Counter())


@pytest.mark.parametrize("way", ["retry", "checkpoint"])
async def test_more_progress_than_a_payload_may_hold_costs_neither_a_call_nor_the_job(autojump_clock: object, way: str):
    app = App(max_payload_bytes=10_000)
    made: Counter[str] = Counter()
    attempts = 0

    async def call(name: str) -> None:
        made[name] += 1

    @app.handler("q")
    async def pay(ctx: Context, text: str) -> None:
        nonlocal attempts
        attempts += 1
        async with ctx.fan_out() as fan:
            for n in range(15_000):  # about 300 kB of names
                fan.start(f"invoice number {n}", call, f"{n}")
            while len(made) < 15_000:
                await trio.sleep(1)
            if way == "checkpoint":
                await fan.checkpoint()
        if attempts == 1:
            raise RetryAfter(1)

    async with testing.run(app) as test:
        await test.enqueue(pay.job("x" * 9800))
        await test.drain(retries=True)
        assert not test.dead_payloads
        assert not test.dead
    assert attempts == 2
    assert set(made.values()) == {1}
    assert len(made) == 15_000


async def test_what_others_sent_too_large_is_never_begun(autojump_clock: object):
    """And what is just small enough, with what waiting adds, is: so its retries fit, too."""
    app = App(max_payload_bytes=10_000)

    @app.handler("q")
    async def fail(ctx: Context, text: str) -> None:
        raise ValueError("x" * 100_000)

    def of(size: int) -> bytes:
        frame = b'{"class":"fail","args":[""],"retry":1,"backtrace":true}'
        return frame.replace(b'""', b'"' + b"x" * (size - len(frame)) + b'"')

    async with testing.run(app) as test:
        test._broker.queues["q"] = [of(10_000), of(14_000), of(14_200), of(140_000)]
        await test.drain(retries=True)
        errors = sorted(json.loads(payload).get("error_class", "unread") for payload in test.dead_payloads)
    assert errors == ["ValueError", "ValueError", "unread", "unread"]
