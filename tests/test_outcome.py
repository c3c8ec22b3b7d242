"""Which ends of an attempt can be written down at all."""

from __future__ import annotations

from typing import Any

import pytest

from trioworkers.outcome import MAX_DELAY_S, Bury, Retry, Snooze


@pytest.mark.parametrize("kind", [Retry, Snooze])
@pytest.mark.parametrize("delay_s", [float("nan"), "7", None, True])
def test_what_waits_has_a_delay_that_is_a_number(kind: Any, delay_s: Any):
    with pytest.raises(ValueError, match="a delay is a number of seconds"):
        kind(b"{}", delay_s)


@pytest.mark.parametrize("kind", [Retry, Snooze])
@pytest.mark.parametrize("delay_s", [float("inf"), 1e300, 10**400], ids=["inf", "1e300", "10**400"])
def test_nothing_waits_longer_than_a_date_can_tell(kind: Any, delay_s: Any):
    assert kind(b"{}", delay_s).delay_s == MAX_DELAY_S


def test_what_never_was_a_job_is_counted_nowhere():
    buried = Bury.unreadable(b"x", "not a JSON object")
    assert (buried.counted, buried.failure and buried.failure.message) == (False, "not a JSON object")
    assert Bury(b"x").counted
