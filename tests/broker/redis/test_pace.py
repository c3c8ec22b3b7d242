"""How much is asked for at once follows what the link carries, and nothing else."""

from __future__ import annotations

import logging

import pytest
import trio
import trio.testing
from coredis import exceptions

from trioworkers.broker.redis.pace import LEAST_BYTES, MOST_BYTES, Pace, is_break
from trioworkers.errors import Unavailable, Unreachable


async def test_slow_link_gets_what_it_carries_in_a_second():
    pace = Pace("here")
    pace.took(2_000_000, 4.0)
    assert pace.bytes == 500_000


def test_small_replies_say_nothing_however_long_a_busy_loop_takes_over_them():
    pace = Pace("here")
    pace.took(10_000, 0.01)
    pace.took(10_000, 0.9)
    pace.took(10_000, 9.0)
    assert pace.bytes == MOST_BYTES


def test_failures_end_at_the_least_and_are_said_once(caplog: pytest.LogCaptureFixture):
    pace = Pace("here")
    with caplog.at_level(logging.WARNING):
        for _ in range(50):
            pace.failed()
    assert (pace.bytes, caplog.text.count("is slow")) == (LEAST_BYTES, 1)


def test_link_that_recovers_is_used():
    pace = Pace("here")
    for _ in range(50):
        pace.failed()
    for _ in range(10):
        pace.took(pace.bytes, 0.02)
    assert pace.bytes == MOST_BYTES


def test_line_is_slow_for_a_minute_after_it_was_seen_to_be():
    async def main() -> None:
        pace = Pace("here")
        pace.took(100, 3.0)  # that was Redis, or chance
        pace.took(5_000_000, 2.0)
        assert not pace.is_slow
        pace.failed()
        assert not pace.is_slow  # an outage says nothing of it
        pace.took(200_000, 1.0)
        assert pace.is_slow
        await trio.sleep(59)
        pace.took(1000, 0.01)
        assert pace.is_slow
        await trio.sleep(1)
        assert not pace.is_slow

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_link_that_breaks_again_is_asked_for_no_more_than_it_carries_for_a_minute():
    """A single break may be chance: nothing is said of it."""

    async def main() -> None:
        pace = Pace("here")
        pace.broke(pace.bytes)
        assert pace.bytes == MOST_BYTES // 4
        for _ in range(5):
            pace.took(pace.bytes, 0.02)
        assert pace.bytes == MOST_BYTES
        await trio.sleep(1)
        pace.broke(pace.bytes)
        for _ in range(5):
            pace.took(pace.bytes, 0.02)
        assert pace.bytes == MOST_BYTES // 2
        await trio.sleep(61)
        pace.took(pace.bytes, 0.02)
        assert pace.bytes == MOST_BYTES

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_calls_of_one_size_that_hear_of_one_break_ask_for_the_same_and_small_ones_for_no_less(
    caplog: pytest.LogCaptureFixture,
):
    async def main() -> None:
        pace = Pace("here")
        pace.broke(LEAST_BYTES)  # so little breaks no link
        assert pace.bytes == MOST_BYTES
        for _ in range(3):
            pace.broke(1_200_000)
            assert pace.bytes == 300_000
        assert caplog.text == ""
        await trio.sleep(2)
        pace.broke(pace.bytes)
        assert pace.bytes == 75_000
        assert "breaks again and again" in caplog.text

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_link_that_breaks_under_the_least_that_can_be_asked_still_counts_as_one_that_breaks_again():
    """Else the audit would read whole payloads over it once a minute, and what a lost fetch has left would be sent twice more."""

    async def main() -> None:
        pace = Pace("here")
        for _ in range(8):
            pace.broke(pace.bytes)
            await trio.sleep(2)
        assert (pace.bytes, pace.breaks_again) == (LEAST_BYTES, True)
        for _ in range(3):
            await trio.sleep(50)
            pace.broke(LEAST_BYTES)
            assert pace.breaks_again
        await trio.sleep(61)
        assert not pace.breaks_again

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_link_that_breaks_carries_what_came_through_since_it_does():
    async def main() -> None:
        pace = Pace("here")
        pace.took(5_000_000, 0.5)
        for _ in range(3):
            pace.broke(pace.bytes)
        assert pace.carries == pace.bytes == 125_000
        pace.took(400_000, 0.2)  # one payload
        assert pace.carries == 400_000
        await trio.sleep(61)
        assert pace.carries == pace.bytes

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def caused_by(cause: Exception) -> Unavailable:
    error = Unavailable(str(cause))
    error.__cause__ = cause
    return error


ANSWERS = [
    caused_by(exceptions.ResponseError("MISCONF Errors writing to the AOF file")),
    caused_by(exceptions.ReadOnlyError("You can't write against a read only replica.")),
    caused_by(exceptions.BusyLoadingError("Redis is loading the dataset in memory")),
    caused_by(exceptions.ClusterDownError("CLUSTERDOWN The cluster is down")),
]


def test_what_was_lost_under_a_call_was_a_break_but_silence_or_no_connection_is_none():
    lost = [Unavailable("lost"), caused_by(exceptions.ConnectionError("lost")), caused_by(ConnectionResetError())]
    assert [is_break(each) for each in lost] == [True] * 3
    others = [caused_by(TimeoutError()), Unreachable("refused"), *ANSWERS]
    assert not any(map(is_break, others))


def test_only_silence_and_a_break_say_that_the_link_carries_less():
    async def main() -> None:
        pace = Pace("here")
        for error in (Unreachable("refused"), *ANSWERS):
            pace.lost(error, pace.bytes)
            assert pace.bytes == MOST_BYTES
        pace.lost(caused_by(TimeoutError()), pace.bytes)
        assert pace.bytes == MOST_BYTES // 4
        pace.lost(caused_by(exceptions.ConnectionError("lost")), pace.bytes)
        assert pace.bytes == MOST_BYTES // 16

    trio.run(main)
