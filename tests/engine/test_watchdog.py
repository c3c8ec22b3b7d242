"""The thread that watches the event loop; what it does about one that is blocked is in `faults/`."""

from __future__ import annotations

import logging
import math
import time

import pytest
import trio

from trioworkers.broker.contract import Holder
from trioworkers.broker.emergency import Lists
from trioworkers.engine.watchdog import watching
from trioworkers.wire.keys import Keys

LEASE_MS = 200
"""A quarter of it is how long a loop may be silent."""


class Passes(trio.abc.Instrument):
    """Counts the loop's passes."""

    def __init__(self) -> None:
        self.count = 0

    def after_io_wait(self, timeout: float) -> None:
        self.count += 1


def lists() -> Lists:
    return Lists("redis://127.0.0.1:1", Keys(), Holder("w", "w in life 1", LEASE_MS), "host:1:abc", {})


async def test_a_loop_that_waits_is_not_woken_to_be_asked():
    passes = Passes()
    with watching([lists()], heard_at=lambda: -math.inf):
        await trio.sleep(LEASE_MS / 1000)
        trio.lowlevel.add_instrument(passes)
        await trio.sleep(LEASE_MS / 1000 * 3)
        trio.lowlevel.remove_instrument(passes)
    assert passes.count <= 2


async def test_a_loop_that_is_blocked_is_named(caplog: pytest.LogCaptureFixture):
    with watching([lists()], heard_at=lambda: -math.inf), caplog.at_level(logging.WARNING, "trioworkers"):
        await trio.sleep(LEASE_MS / 1000)
        time.sleep(LEASE_MS / 1000 * 3)  # noqa: ASYNC251 - this is the fault
        await trio.sleep(LEASE_MS / 1000)
    assert "the event loop is blocked" in caplog.text
    assert "test_a_loop_that_is_blocked_is_named" in caplog.text
