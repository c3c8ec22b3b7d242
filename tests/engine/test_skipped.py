"""Jobs whose class has no handler here: what the app or the queue says becomes of them."""

from __future__ import annotations

import itertools
import json
import logging
from datetime import UTC, datetime

import pytest
import trio

from trioworkers import App, ConfigurationError, Context, Job, testing
from trioworkers.engine.skipped import FIRST_DELAY_S, LONGEST_DELAY_S, SAY_AGAIN_AFTER_S, SkippedJobs
from trioworkers.wire.decode import decode
from trioworkers.wire.encode import addressed


def app_of(unknown: str | None = None, on_queue: str | None = None) -> App:
    app = App(unknown=unknown)
    app.queue("q", unknown=on_queue)

    @app.handler("q")
    async def known() -> None:
        pass

    return app


@pytest.mark.parametrize(
    ("unknown", "on_queue", "expected"),
    [
        (None, None, "retry"),
        ("retry", "dead", "dead"),
        ("dead", None, "dead"),
        ("leave", None, "leave"),
        ("dead", "leave", "leave"),
        ("leave", "retry", "retry"),
    ],
)
async def test_the_queue_says_else_the_app(autojump_clock: object, unknown: str, on_queue: str, expected: str):
    async with testing.run(app_of(unknown, on_queue)) as test:
        job = Job("q", "Stranger", [1.5], extra={"x": 1})
        await test.enqueue(job)
        await test.drain()
        found = {"retry": test.retries, "dead": test.dead, "leave": test.scheduled}
        assert {place: len(jobs) for place, jobs in found.items()} == {**dict.fromkeys(found, 0), expected: 1}
        (kept,) = found[expected]
        assert (kept.jid, kept.args, kept.extra["x"]) == (job.jid, (1.5,), 1)
        assert kept.retry_count == (None if expected == "leave" else 0)


async def test_a_job_that_was_left_waits_with_what_it_said_and_comes_back_behind_the_others(autojump_clock: object):
    payload = b'{"class":"Stranger", "queue":"q","args":[1.10],"jid":"j1","n":12345678901234567890123}'
    async with testing.run(app_of("leave")) as test:
        broker = test._broker
        broker.queues["q"] = [payload]
        broker._changed.set()
        await test.enqueue(Job("q", "known"))
        await test.drain()
        (left,) = broker.sets["schedule"]
        since_s = json.loads(left)["tw_snoozed"]
        assert json.loads(left) == json.loads(payload) | {"tw_snoozed": since_s}
        assert b"[1.10]" in left
        assert test.completed == 2
        await trio.sleep(FIRST_DELAY_S * 1.25)  # it came due, was left again, and waits longer
        (again,) = broker.sets["schedule"]
        promoted = json.loads(again)
        assert promoted.pop("enqueued_at")
        assert b"1.10" in again
        assert promoted == json.loads(payload) | {"tw_snoozed": since_s}
        assert test.dead == test.retries == []


async def test_to_drain_with_retries_does_not_wait_for_what_is_left_for_others(autojump_clock: object):
    app, attempts = app_of("leave"), []

    @app.handler("q")
    async def flaky(ctx: Context) -> None:
        attempts.append(ctx.attempt)
        if ctx.attempt < 3:
            raise ValueError("no")

    async with testing.run(app) as test:
        await test.enqueue(Job("q", "Stranger"), Job("q", "flaky"))
        await test.schedule(60, Job("q", "known"), Job("elsewhere", "Stranger"))
        with trio.fail_after(3600):
            await test.drain(retries=True)
        assert attempts == [1, 2, 3]
        assert [job.job_class for job in test.scheduled] == ["Stranger"]
        assert len(test.jobs("elsewhere")) == 1  # nobody here says what becomes of those


async def test_what_lies_in_another_queue_than_it_says_comes_back_to_where_it_lay(autojump_clock: object):
    async with testing.run(app_of("leave")) as test:
        broker = test._broker
        broker.queues["q"] = [b'{"class":"S","queue":"elsewhere","args":[]}', b'{"class":"S","args":[]}'] * 2
        await test.enqueue(Job("q", "known"))
        await test.drain()
        waiting = [json.loads(payload) for payload in broker.sets["schedule"]]
        assert [fields["queue"] for fields in waiting] == ["q"] * 4
        assert len({fields["jid"] for fields in waiting}) == 4  # equal bytes would have become one


async def test_each_return_of_a_job_waits_longer_up_to_a_bound(autojump_clock: object):
    skipped = SkippedJobs()
    payload = b'{"queue":"q","class":"Stranger","args":[],"jid":"a"}'
    now_s, delays = 1_000_000.0, []
    while (found := skipped.skip(decode(payload, "q"), payload, now_s)) is not None:
        delays.append(found.delay_s)
        payload, now_s = found.payload, now_s + found.delay_s
    assert delays[0] <= FIRST_DELAY_S * 1.25
    assert all(FIRST_DELAY_S * 0.75 <= delay_s <= LONGEST_DELAY_S * 1.25 for delay_s in delays)
    assert all(later >= 0.5 * sooner for sooner, later in itertools.pairwise(delays))
    assert 24 * 3600 <= now_s - 1_000_000.0 <= 25 * 3600
    assert len(delays) < 24 * 3600 / LONGEST_DELAY_S / 0.75 + 20
    assert skipped.by_queue == {"q": len(delays)}


@pytest.mark.parametrize("retry", [None, 0])
async def test_what_nobody_has_wanted_for_a_day_has_failed(autojump_clock: object, retry: int | None):
    async with testing.run(app_of("leave")) as test:
        await test.enqueue(Job("q", "Stranger", retry=True if retry is None else retry))
        await trio.sleep(23 * 3600)
        assert [job.retry_count for job in test.scheduled] == [None]
        await trio.sleep(2 * 3600)
        (failed,) = test.scheduled if retry is None else test.dead  # its next attempt has begun a day of its own
        assert failed.retry_count == 0
        assert failed.extra["error_class"].endswith("UnknownClass")
        assert (failed.snoozed_at_s is None) == (retry == 0)


@pytest.mark.parametrize("is_paused", [True, False])
async def test_how_long_a_job_is_wanted_bounds_what_puts_it_off(autojump_clock: object, is_paused: bool):
    name = "known" if is_paused else "Stranger"
    async with testing.run(app_of("leave")) as test:
        test._runner.paused_classes = frozenset({"known"})
        deadline = datetime.fromtimestamp(test._broker.clock.now_s() + 600, UTC)
        jobs = [Job("q", name, expires_in=600), Job("q", name, deadline=deadline, retry=0), Job("q", name)]
        await test.enqueue(*jobs)
        await trio.sleep(200)
        assert len(test.scheduled) == 3
        await trio.sleep(1200)
        assert [job.jid for job in test.scheduled] == [jobs[2].jid]
        # Of a class without a handler it is told that, and when there is no time left to wait for one.
        expected = "DeadlinePassed" if is_paused else "UnknownClass"
        assert [(job.jid, job.extra["error_class"].rpartition(".")[2]) for job in test.dead] == [
            (jobs[1].jid, expected)
        ]


async def test_it_is_said_once_for_each_class_and_again_only_after_a_while(
    autojump_clock: object, caplog: pytest.LogCaptureFixture
):
    skipped = SkippedJobs()
    payload = b'{"queue":"q","jid":"a"}'
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            skipped.skip(Job("q", "Stranger"), payload, 1.5)
            skipped.skip(Job("q", "Other"), payload, 1.5)
        assert ["Stranger" in caplog.messages[0], "Other" in caplog.messages[1]] == [True, True]
        assert len(caplog.messages) == 2
        await trio.sleep(SAY_AGAIN_AFTER_S)
        skipped.skip(Job("q", "Stranger"), payload, 1.5)
    assert "3 times in the last 10 min" in caplog.messages[2]


def test_a_word_that_is_none_of_the_three_is_refused():
    with pytest.raises(ConfigurationError, match="retry, dead or leave, not 'drop'"):
        App(unknown="drop")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"queue 'q': .*not 'keep'"):
        App().queue("q", unknown="keep")  # type: ignore[arg-type]


def test_a_payload_that_says_it_all_is_left_as_it_is():
    payload = b'{ "class":"A", "queue":"q", "args":[], "jid":"j" }'
    assert addressed(payload, "q", "other") is payload
    assert decode(addressed(payload, "p", "other"), "p").jid == "j"
