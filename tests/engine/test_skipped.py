"""Jobs whose class has no handler here: what the app or the queue says becomes of them."""

from __future__ import annotations

import json
import logging

import pytest
import trio

from trioworkers import App, ConfigurationError, Context, Job, testing
from trioworkers.engine.skipped import FIRST_DELAY_S, LONGEST_DELAY_S, REMEMBERED_JOBS, SAY_AGAIN_AFTER_S, SkippedJobs
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


async def test_a_job_that_was_left_waits_with_the_same_bytes_and_comes_back_behind_the_others(autojump_clock: object):
    payload = b'{"class":"Stranger", "queue":"q","args":[1.10],"jid":"j1","n":12345678901234567890123}'
    async with testing.run(app_of("leave")) as test:
        broker = test._broker
        broker.queues["q"] = [payload]
        broker._changed.set()
        await test.enqueue(Job("q", "known"))
        await test.drain()
        assert list(broker.sets["schedule"]) == [payload]
        assert test.completed == 2
        await trio.sleep(FIRST_DELAY_S * 1.25)  # it came due, was left again, and waits longer
        (again,) = broker.sets["schedule"]
        promoted = json.loads(again)
        assert promoted.pop("enqueued_at")
        assert b"1.10" in again
        assert promoted == json.loads(payload)
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
    job = Job("q", "Stranger", jid="a")
    payload = b'{"queue":"q","jid":"a"}'
    delays = [skipped.skip(job, payload).delay_s for _ in range(12)]
    for number, delay_s in enumerate(delays):
        expected = min(FIRST_DELAY_S * 2**number, LONGEST_DELAY_S)
        assert expected * 0.75 <= delay_s <= expected * 1.25
    assert skipped.skip(Job("q", "Stranger", jid="b"), payload).delay_s <= FIRST_DELAY_S * 1.25
    assert skipped.by_queue == {"q": 13}


async def test_more_jobs_than_can_be_remembered_wait_longest(autojump_clock: object):
    skipped = SkippedJobs()
    payload = b'{"queue":"q","jid":"a"}'
    for number in range(REMEMBERED_JOBS):
        skipped.skip(Job("q", "Stranger", jid=str(number)), payload)
    assert skipped.skip(Job("q", "Stranger", jid="more"), payload).delay_s >= LONGEST_DELAY_S * 0.75
    assert len(skipped._times) == REMEMBERED_JOBS


async def test_it_is_said_once_for_each_class_and_again_only_after_a_while(
    autojump_clock: object, caplog: pytest.LogCaptureFixture
):
    skipped = SkippedJobs()
    payload = b'{"queue":"q","jid":"a"}'
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            skipped.skip(Job("q", "Stranger"), payload)
            skipped.skip(Job("q", "Other"), payload)
        assert ["Stranger" in caplog.messages[0], "Other" in caplog.messages[1]] == [True, True]
        assert len(caplog.messages) == 2
        await trio.sleep(SAY_AGAIN_AFTER_S)
        skipped.skip(Job("q", "Stranger"), payload)
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
