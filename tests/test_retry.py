"""Retry policy as arithmetic: no clock, no patching."""

from __future__ import annotations

import base64
import json
import zlib
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from trioworkers import Bury as BuryError
from trioworkers import CallFailed, FanOutError, RateLimited, RetryAfter
from trioworkers import Discard as DiscardError
from trioworkers.errors import BadArguments, UnknownClass
from trioworkers.outcome import Bury, Discard, Retry, Snooze
from trioworkers.retry import backoff_s, decide
from trioworkers.wire.decode import decode

NOW = 1_700_000_000.5


def fail(
    error: BaseException = ValueError("boom"), *, jitter: float = 0.0, default: bool | int = True, **fields: object
):
    payload = json.dumps({"class": "A", "args": [1], "jid": "j", "queue": "q", **fields}).encode()
    return decide(decode(payload, "q"), payload, error, now_s=NOW, jitter=jitter, default=default)


def after(outcome: object) -> dict[str, object]:
    assert isinstance(outcome, Retry | Bury)
    return json.loads(outcome.payload)


def test_backoff_is_sidekiqs_curve():
    assert [backoff_s(count) for count in (0, 1, 2, 3, 4, 24)] == [15, 16, 31, 96, 271, 331791]


def test_jitter_grows_with_the_count():
    assert fail(jitter=0.5).delay_s == 15 + 5
    assert fail(jitter=0.5, retry_count=3, failed_at=1.5).delay_s == 271 + 25


def test_first_failure_sets_failed_at_and_count_zero():
    fields = after(fail(retry=True))
    assert (fields["retry_count"], fields["failed_at"]) == (0, NOW)
    assert "retried_at" not in fields
    assert (fields["error_class"], fields["error_message"], fields["retry"]) == ("ValueError", "boom", True)


def test_later_failure_sets_retried_at_and_keeps_failed_at():
    fields = after(fail(retry_count=1, failed_at=1699999999.5))
    assert (fields["retry_count"], fields["failed_at"], fields["retried_at"]) == (2, 1699999999.5, NOW)


def test_text_time_of_go_workers_is_replaced_by_a_number():
    assert after(fail(retry_count=1, failed_at="2023-11-14 22:13:20 UTC"))["failed_at"] == NOW


def test_job_runs_26_times_with_25_retries():
    assert isinstance(fail(retry_count=23, failed_at=1.5), Retry)
    assert isinstance(fail(retry_count=24, failed_at=1.5), Bury)


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"retry": False}, Discard),
        ({"retry": 0}, Bury),
        ({"retry": -1}, Bury),
        ({"retry": 0, "dead": False}, Discard),
        ({"retry": 1}, Retry),
        ({"retry": 1, "retry_count": 0, "failed_at": 1.5}, Bury),
        ({"retry": None}, Retry),
        ({}, Retry),
    ],
)
def test_retry_field_in_every_form(fields: dict[str, object], kind: type):
    assert isinstance(fail(**fields), kind)


def test_handlers_default_counts_only_where_the_job_says_nothing():
    assert isinstance(fail(default=False), Discard)
    assert isinstance(fail(default=False, retry=True), Retry)
    assert after(fail(default=3))["retry"] == 3


def test_retry_for_counts_time_instead_of_retries():
    assert isinstance(fail(retry_for=60, retry_count=80, failed_at=NOW - 59), Retry)
    assert isinstance(fail(retry_for=60, retry_count=1, failed_at=NOW - 61), Bury)


def test_retry_queue_is_where_the_retry_goes():
    assert after(fail(retry_queue="slow"))["queue"] == "slow"


def test_handler_steers_with_what_it_raises():
    assert fail(RetryAfter(7)).delay_s == 7
    assert isinstance(fail(BuryError("why")), Bury)
    assert isinstance(fail(BuryError("why"), retry=False), Bury)
    assert isinstance(fail(DiscardError("why")), Discard)
    assert isinstance(fail(RetryAfter(7), retry=0), Bury)
    with pytest.raises(ValueError, match="seconds"):
        RetryAfter(-1)


@pytest.mark.parametrize(
    "delay", [True, "5", None, timedelta(seconds=5), Decimal("NaN"), Fraction(1, 2), datetime(2030, 1, 1, tzinfo=UTC)]
)
def test_retry_after_what_is_no_number_of_seconds_is_refused_in_words(delay: Any):
    with pytest.raises(ValueError, match="RetryAfter takes a number of seconds from now, not "):
        RetryAfter(delay)


def test_steering_is_heard_out_of_a_nurserys_group():
    group = ExceptionGroup("", [ValueError("a"), ExceptionGroup("", [RetryAfter(5), RetryAfter(9)])])
    assert fail(group).delay_s == 9


def test_wrong_arguments_are_buried_at_once():
    assert isinstance(fail(BadArguments("A: argument 1")), Bury)


def test_message_that_is_no_unicode_or_too_long_is_tamed():
    assert len(after(fail(ValueError("x" * 20_000)))["error_message"]) == 10_000
    assert after(fail(ValueError("\ud800")))["error_message"] == "?"

    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    assert "Broken" in str(after(fail(Broken()))["error_message"])


def test_backtrace_is_strict_base64_of_zlib_of_a_json_array():
    def raised() -> BaseException:
        try:
            raise ValueError("boom")
        except ValueError as error:
            return error

    text = str(after(fail(raised(), backtrace=True))["error_backtrace"])
    lines = json.loads(zlib.decompress(base64.b64decode(text, validate=True)))
    assert lines[0].endswith(":in `raised'")


def call(name: str, *, permanent: bool = False, retry_after_s: float | None = None, paused: bool = False) -> CallFailed:
    return CallFailed(name, "why", permanent=permanent, retry_after_s=retry_after_s, paused=paused)


def test_fan_out_with_only_permanent_failures_is_buried():
    assert isinstance(fail(FanOutError([call("a", permanent=True)], 2)), Bury)
    assert isinstance(fail(FanOutError([call("a", permanent=True), call("b")], 2)), Retry)


def test_retry_after_of_all_failed_calls_sets_the_next_attempt():
    assert fail(FanOutError([call("a", retry_after_s=3), call("b", retry_after_s=7)], 4)).delay_s == 7
    assert fail(FanOutError([call("a", retry_after_s=3), call("b")], 4)).delay_s == 15


def test_paused_host_costs_no_attempt():
    same = b'{"class": "A", "args": [1], "jid": "j", "queue": "q"}'
    paused = FanOutError([call("a", retry_after_s=5, paused=True)], 4)
    first = fail(paused)
    assert isinstance(first, Snooze)
    assert (json.loads(first.payload), first.delay_s) == ({**json.loads(same), "tw_snoozed": NOW}, 5)
    assert fail(paused, tw_snoozed=NOW - 60) == Snooze(same[:-1] + b', "tw_snoozed": %r}' % (NOW - 60), 5)
    elsewhere = fail(paused, queue="other")  # it waits in the schedule set, and comes back to where it was fetched
    assert isinstance(elsewhere, Snooze)
    assert json.loads(elsewhere.payload)["queue"] == "q"


PAUSED = FanOutError([call("a", retry_after_s=5, paused=True)], 4)


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"tw_snoozed": NOW - 86_399}, Snooze),
        ({"tw_snoozed": NOW - 86_400}, Retry),
        ({"tw_snoozed": NOW - 86_400, "retry": False}, Discard),
        ({"tw_snoozed": NOW - 86_400, "retry": 0}, Bury),
        ({"tw_snoozed": NOW - 59, "retry_for": 60}, Snooze),
        ({"tw_snoozed": NOW - 60, "retry_for": 60}, Bury),
        ({"failed_at": NOW - 60, "retry_for": 60}, Bury),
        ({"failed_at": NOW - 60, "retry_for": 61}, Snooze),
        ({"failed_at": NOW - 86_500, "retry_for": 90_000}, Snooze),
        ({"failed_at": NOW - 9e6}, Snooze),
        ({"tw_snoozed": NOW + 1e9}, Snooze),
        ({"tw_snoozed": "soon"}, Snooze),
        ({"tw_snoozed": -1}, Retry),
    ],
)
def test_job_is_put_off_for_no_longer_than_it_may_be_retried(fields: dict[str, object], kind: type):
    outcome = fail(PAUSED, **{"retry": True, **fields})
    assert isinstance(outcome, kind)
    if isinstance(outcome, Retry | Bury):
        assert "tw_snoozed" not in after(outcome)


@pytest.mark.parametrize(
    ("fields", "delay_s"),
    [
        ({"retry_for": 60}, 60.0),
        ({"retry_for": 60, "failed_at": NOW - 50}, 10.0),
        ({"retry_for": 60, "tw_snoozed": NOW - 59.5}, 1.0),
        ({"retry_for": 9_000}, 3600.0),
    ],
)
def test_job_that_is_put_off_comes_back_before_it_may_not_be_retried_any_more(
    fields: dict[str, object], delay_s: float
):
    outcome = fail(RateLimited(3600), **{"retry": True, **fields})
    assert isinstance(outcome, Snooze)
    assert outcome.delay_s == pytest.approx(delay_s)


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -float("inf"), 10**400, "5", None, True])
def test_wait_that_is_no_sensible_number_breaks_nothing(seconds: object):
    for paused in (True, False):
        error = FanOutError([call("a", retry_after_s=seconds, paused=paused)], 1)  # type: ignore[arg-type]
        assert float(paused) <= fail(error).delay_s <= 86_401


def test_unknown_class_is_kept_whatever_the_job_says_of_its_own_failures():
    unknown = UnknownClass("no handler")
    assert isinstance(fail(unknown), Retry)
    assert isinstance(fail(unknown, retry=False), Bury)
    assert isinstance(fail(UnknownClass("no handler", hopeless=True), retry=25), Bury)
    assert isinstance(fail(UnknownClass("no handler", hopeless=True), dead=False), Discard)


def fail_active_job(error: BaseException, **inner: object) -> dict[str, object]:
    wrapper = "ActiveJob::QueueAdapters::SidekiqAdapter::JobWrapper"
    arguments = [{"job_class": "A", "arguments": [1], **inner}]
    payload = json.dumps({"class": wrapper, "wrapped": "A", "args": arguments, "jid": "j", "queue": "q"}).encode()
    fields = after(decide(decode(payload, "q"), payload, error, now_s=NOW, jitter=0.0))
    assert (fields["class"], fields["wrapped"], fields["retry_count"]) == (wrapper, "A", 0)
    (changed,) = fields["args"]  # type: ignore[misc]
    return changed


def test_failed_attempt_of_active_job_counts_as_an_execution():
    counts = {"[ArgumentError]": 1}
    changed = fail_active_job(ValueError("boom"), executions=1, exception_executions=counts)
    assert (changed["executions"], changed["exception_executions"]) == (2, counts)
    assert fail_active_job(BadArguments("A: argument 1"), executions=1)["executions"] == 2


def test_active_job_of_a_class_that_is_not_here_was_not_executed():
    assert fail_active_job(UnknownClass("no handler"), executions=1)["executions"] == 1


def failed_call(*, permanent: bool = False, retry_after_s: float | None = None) -> FanOutError:
    return FanOutError([CallFailed("b", "no", permanent=permanent, retry_after_s=retry_after_s)], 2)


def test_buried_job_keeps_what_is_done_but_not_what_failed_so_that_a_hand_can_retry_it():
    fields = after(fail(failed_call(permanent=True), retry=True, tw_done=["a"], tw_failed={"b": "404"}))
    assert (fields["tw_done"], "tw_failed" in fields) == (["a"], False)
    fields = after(fail(failed_call(), retry=True, tw_failed={"c": "404"}))
    assert fields["tw_failed"] == {"c": "404"}


def test_service_that_asks_for_nothing_is_believed_less_each_time():
    delays = [fail(failed_call(retry_after_s=0.0), retry_count=n, failed_at=1.5).delay_s for n in range(5)]
    assert delays == [1, 4, 9, 16, 25]
    assert fail(failed_call(retry_after_s=0.0)).delay_s == 0
    assert fail(failed_call(retry_after_s=700.0), retry_count=4, failed_at=1.5).delay_s == 700
