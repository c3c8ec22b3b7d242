"""How long a job is wanted: what we write, in each dialect, and what is read of whatever strangers wrote."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioworkers import BadJob, Job
from trioworkers.send import Send
from trioworkers.sending import Sending
from trioworkers.wire.dialects import dialect_named
from trioworkers.wire.keys import Keys
from trioworkers.wire.lifetime import kept_s, moment, moment_s

NOW_S = 1_700_000_000.0
LATER = datetime.fromtimestamp(NOW_S + 600, UTC)
dialects = pytest.mark.parametrize(
    "dialect", [dialect_named(name) for name in ("sidekiq", "resque", "goworkers")], ids=str
)


@dialects
def test_lifetime_comes_out_as_it_went_in(dialect: Any):
    job = Job("q", "A", [1], expires_in=60, deadline=LATER, keep_result=3600)
    read = dialect.decode(dialect.encode(job, NOW_S), "q")
    assert (read.expires_at_s, read.deadline, read.keep_result, read.jid) == (NOW_S + 60, LATER, 3600, job.jid)
    assert read.expires_in is None


@dialects
def test_job_without_a_lifetime_has_no_field_of_it(dialect: Any):
    assert b"tw_" not in dialect.encode(Job("q", "A"), NOW_S)


@pytest.mark.parametrize(
    "send", [Send(Job("q", "A", expires_in=60), delay_s=100), Send(Job("q", "A", expires_in=60), at_s=NOW_S + 100)]
)
def test_expiry_counts_from_when_the_job_is_due(send: Send):
    payload = dialect_named("sidekiq").encode(send.job, NOW_S, enqueued=False, due_s=send.due_s(NOW_S))
    assert json.loads(payload)["tw_expires"] == NOW_S + 160


@pytest.mark.parametrize(
    "options",
    [
        {"expires_in": 0},
        {"expires_in": -1},
        {"expires_in": float("nan")},
        {"expires_in": float("inf")},
        {"expires_in": "60"},
        {"expires_in": True},
        {"keep_result": 0},
        {"keep_result": 31 * 86_400},
        {"keep_result": 10**400},
        {"deadline": 60},
        {"deadline": timedelta(seconds=60)},
    ],
    ids=str,
)
def test_what_can_not_be_is_refused_before_anything_is_sent(options: dict[str, Any]):
    with pytest.raises(BadJob):
        dialect_named("sidekiq").encode(Job("q", "A", **options), NOW_S)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(10**309, 10**320) | st.floats() | st.text(),
    st.lists,
    max_leaves=3,
)


@given(anything)
def test_whatever_strangers_wrote_is_a_bounded_number_or_nothing(value: object):
    kept, at_s, at = kept_s(value), moment_s(value), moment(value)
    assert kept is None or 0 < kept <= 30 * 86_400
    assert at_s is None or 0 < at_s < 1e11
    assert (at is None) is (at_s is None)


def test_deadline_that_is_past_is_refused_when_it_is_sent_but_not_with_an_outcome():
    sending, late = Sending(Keys()), Job("q", "A", deadline=datetime.fromtimestamp(NOW_S - 1, UTC))
    with pytest.raises(BadJob, match="is past"):
        list(sending.parcels([Send(late)], NOW_S))
    assert sending.work([Send(late)], NOW_S)


@pytest.mark.parametrize("deadline", [datetime.max, datetime.min, datetime.max.replace(tzinfo=UTC)], ids=str)  # noqa: DTZ901 - a user may
def test_first_and_last_day_are_no_error(deadline: datetime):
    payload = dialect_named("sidekiq").encode(Job("q", "A", deadline=deadline), NOW_S)
    assert json.loads(payload)["class"] == "A"
