"""What we add never makes a payload too large or unreadable: at a retry, a burial, a snooze, a requeue, a checkpoint."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioworkers.errors import Bury as BuryIt
from trioworkers.errors import CallFailed
from trioworkers.outcome import Bury, Retry, Snooze
from trioworkers.retry import decide
from trioworkers.wire.decode import decode
from trioworkers.wire.fitting import fitted

PAYLOAD = b'{"class":"A","args":["' + b"x" * 500 + b'"],"jid":"j","queue":"q","n":1.10,"backtrace":true,"retry":true}'
LIMIT = 4096


def names(count: int) -> dict[str, Any]:
    return {
        "tw_done": [f"call {n}" for n in range(count)],
        "tw_failed": {f"failed {n}": "no such user" * 20 for n in range(count)},
    }


def test_what_fits_is_left_as_it_is():
    changes = {"error_message": "m" * 600, "error_backtrace": "b" * 100, "tw_done": ["a"]}
    assert json.loads(fitted(PAYLOAD, changes, LIMIT)) == json.loads(PAYLOAD) | changes


def test_the_backtrace_goes_first_then_the_message_is_cut():
    changes = {"error_message": "m" * 3000, "error_backtrace": "b" * 9000, "tw_done": ["a"]}
    found = json.loads(fitted(PAYLOAD, changes, LIMIT))
    assert "error_backtrace" not in found
    assert found["error_message"] == "m" * 3000
    found = json.loads(fitted(PAYLOAD, {**changes, "error_message": "m" * 9000}, LIMIT))
    assert 400 < len(found["error_message"]) < 600
    assert found["tw_done"] == ["a"]


def test_names_of_calls_are_kept_as_long_as_there_is_room_those_that_failed_first():
    found = json.loads(fitted(PAYLOAD, {"error_message": "m" * 9000, **names(60)}, LIMIT))
    assert list(found["tw_failed"]) == [f"failed {n}" for n in range(len(found["tw_failed"]))]
    assert 10 < len(found["tw_failed"]) < 60
    found = json.loads(fitted(PAYLOAD, names(25), LIMIT))
    assert len(found["tw_failed"]) == 25
    assert len(found["tw_done"]) > 0


texts = st.text(max_size=60) | st.integers(0, 40_000).map(lambda n: "é\x00\n" * (n // 3))


@given(message=texts, trace=texts, done=st.lists(texts, max_size=40), failed=st.dictionaries(texts, texts, max_size=40))
def test_no_text_of_any_size_makes_it_larger_than_it_may_be(
    message: str, trace: str, done: list[str], failed: dict[str, str]
):
    changes = {
        "error_message": message,
        "error_backtrace": trace,
        "retry_count": 3,
        "tw_done": done,
        "tw_failed": failed,
    }
    found = fitted(PAYLOAD, changes, LIMIT, jid="j")
    assert len(found) <= LIMIT
    assert b'"n":1.10' in found
    job = decode(found, "q")
    assert job.progress == tuple(done[: len(job.progress)])
    assert list(job.failed_calls) == list(failed)[: len(job.failed_calls)]


class Long(Exception):
    def __str__(self) -> str:
        return "\x00" * 1_000_000


PAUSED = CallFailed("h", "paused", permanent=False, retry_after_s=5, paused=True)


@pytest.mark.parametrize(("error", "kind"), [(Long(), Retry), (BuryIt("no" * 5000), Bury), (PAUSED, Snooze)])
@pytest.mark.parametrize("args", [10, LIMIT - 200, LIMIT - 600])
def test_every_outcome_of_a_failed_attempt_fits(error: Exception, kind: type, args: int):
    payload = PAYLOAD.replace(b"x" * 500, b"x" * (args - len(PAYLOAD) + 500 if args > 500 else args))
    outcome = decide(
        decode(payload, "q"), payload, error, now_s=1.7e9, jitter=0.5, progress=names(300), max_bytes=LIMIT + 2000
    )
    assert isinstance(outcome, kind)
    assert isinstance(outcome, Retry | Bury | Snooze)
    assert len(outcome.payload) <= LIMIT + 2000
    assert decode(outcome.payload, "q").args == decode(payload, "q").args
