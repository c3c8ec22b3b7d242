"""What jobs tell of how far they are, and what is kept of how they ended: an app without Redis, on the virtual clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
import trio

from trioworkers import App, Bury, ConfigurationError, Context, Discard, Job
from trioworkers.broker.contract import Settlement
from trioworkers.testing import run
from trioworkers.testing.broker import TestBroker
from trioworkers.wire.reported import (
    MAX_HOW,
    MAX_MESSAGE,
    Finished,
    Reported,
    decode_finished,
    decode_reported,
    encode_reported,
    reported,
)


@pytest.fixture
def app() -> App:
    app = App()
    app.queue("q", concurrency=100)
    return app


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """How many groups with progress were written, by the second."""
    found: Counter[int] = Counter()
    settle = TestBroker.settle

    async def counted(self: TestBroker, number: int, group: Sequence[Settlement], cleared: Sequence[str] = ()) -> Any:
        if any(each.payload == b"" for each in group):
            found[int(trio.current_time())] += 1
        return await settle(self, number, group, cleared)

    monkeypatch.setattr(TestBroker, "settle", counted)
    return found


def told(test: Any, jid: str) -> Reported | None:
    found = test._broker.held.progress.get(jid)
    return None if found is None else decode_reported(found[0])


async def test_all_jobs_of_a_worker_share_one_write_a_second(autojump_clock: Any, app: App, writes: Counter[int]):
    @app.handler("q", "Long")
    async def long(ctx: Context) -> None:
        for number in range(100):
            ctx.progress(number, 100, "on")
            await trio.sleep(0.1)

    async with run(app) as test:
        await test.enqueue(*(Job("q", "Long", jid=f"j{number}") for number in range(100)))
        await trio.sleep(5)
        assert {told(test, f"j{number}") for number in range(100)} <= {Reported(at, 100, "on") for at in range(38, 51)}
        await test.drain()
        assert told(test, "j7") == Reported(99, 100, "on", how="succeeded")
    assert writes
    assert max(writes.values()) == 1


async def test_what_was_told_last_stays_over_a_retry(autojump_clock: Any, app: App):
    @app.handler("q", "Fails")
    async def fails(ctx: Context) -> None:
        ctx.progress(ctx.attempt, message="quick")
        if ctx.attempt == 1:
            raise ValueError

    async with run(app) as test:
        await test.enqueue(Job("q", "Fails", jid="j"))
        await test.drain()
        assert told(test, "j") == Reported(1, None, "quick")
        await test.drain(retries=True)
        assert told(test, "j") == Reported(2, None, "quick", how="succeeded")


@pytest.mark.parametrize(
    "wrong", [(-1,), (float("nan"),), (True,), ("1",), (1, float("inf")), (1, 2, b"text"), (1e300,)], ids=repr
)
def test_what_is_no_progress_is_refused(wrong: tuple[Any, ...]):
    with pytest.raises(ValueError, match=r"number from 0 on|is a text"):
        reported(*[*wrong, None, ""][:3] if len(wrong) < 3 else wrong)


def test_what_is_told_is_bounded_and_has_a_form():
    long = reported(1, 2, "x" * 10_000 + "\ud800")
    assert len(long.message) == MAX_MESSAGE
    assert decode_reported(encode_reported(reported(1, 2, "\ud800é"))) == Reported(1, 2, "?é")


@pytest.mark.parametrize(
    "text", [b"", b"{}", b"[1]", b'{"at":"x"}', b'{"at":1e999}', b"\xff", b'{"at":1,"total":1e400}', b"[" * 10_000]
)
def test_what_others_wrote_there_is_nothing(text: bytes):
    assert decode_reported(text) is None
    assert decode_finished(text) is None


@pytest.mark.parametrize("numbers", ['"at":-5', '"at":1e15', '"at":5,"total":-10', '"at":5,"total":1e300'])
def test_numbers_that_no_job_can_tell_are_nothing(numbers: str):
    assert decode_reported(f"{{{numbers}}}".encode()) is None


def test_texts_that_others_wrote_there_are_bounded():
    told = decode_reported(b'{"at":1,"message":"%s","how":"%s"}' % (b"x" * 100_000, b"y" * 100_000))
    assert told == Reported(1, None, "x" * MAX_MESSAGE, how="y" * MAX_HOW)


@pytest.mark.parametrize("moment", ["nan", "inf", "-inf", "1e300", "-5", ""])
def test_end_at_no_moment_is_nothing(moment: str):
    assert decode_finished(f'{moment} {{"jid":"j","how":"dead"}}'.encode()) is None
    assert decode_finished(b'1 {"jid":"j","how":"dead","took_s":-3}') is None


async def test_newest_ends_of_a_class_are_kept(autojump_clock: Any, app: App):
    @app.handler("q", "Ends", keep_finished=4, expires_in=50)
    async def ends(number: int) -> None:
        await trio.sleep(number)
        if number == 3:
            raise Discard
        if number == 4:
            raise Bury("no")
        if number == 5:
            raise ValueError

    async with run(app) as test:
        await test.enqueue(*(Job("q", "Ends", [number], jid=f"j{number}") for number in range(6)))
        await test.drain()
        kept = [decode_finished(each) for each in test._broker.held.finished["Ends"]]
    assert [(each.jid, each.how, each.queue, each.took_s) for each in kept if each] == [
        ("j4", "dead", "q", 4.0),
        ("j3", "discarded", "q", 3.0),
        ("j2", "succeeded", "q", 2.0),
        ("j1", "succeeded", "q", 1.0),
    ]


async def test_nobody_pays_for_what_is_not_kept(autojump_clock: Any, app: App):
    @app.handler("q", "Plain")
    async def plain() -> None:
        pass

    async with run(app) as test:
        await test.enqueue(Job("q", "Plain"))
        await test.drain()
        assert not test._broker.held.progress
        assert not test._broker.held.finished


@pytest.mark.parametrize("count", [0, -1, True, 1.5, "10", 10_001])
def test_count_that_is_none_is_refused(app: App, count: Any):
    with pytest.raises(ConfigurationError, match="keep_finished is a number"):
        app.handler("q", "A", keep_finished=count)


def test_it_is_kept_for_a_class_not_for_any(app: App):
    with pytest.raises(ConfigurationError, match="keep_finished is kept for a class"):
        app.handler("q", "*", keep_finished=10)


def test_an_entry_says_when():
    assert decode_finished(b'1700000000.250 {"jid":"j","how":"dead"}') == Finished(
        "j", "dead", ended_at_s=1_700_000_000.25
    )
