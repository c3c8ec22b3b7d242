"""What the log says of Redis: one line when it goes, one when it comes; refusals have lines of their own."""

from __future__ import annotations

import pytest
import trio

from trioworkers.broker.redis.link import Link
from trioworkers.errors import BrokerError, Unavailable, Unreachable

OURS = "redis://127.0.0.1:1/0"


async def _said(caplog: pytest.LogCaptureFixture, *errors: BrokerError) -> list[str]:
    """What is said when a Redis that was there fails like this, in calls of different kinds."""
    caplog.set_level("INFO")
    link = Link(OURS)
    link.succeeded("fetch")
    caplog.clear()
    for number, error in enumerate(errors):
        link.failed(f"call {number}", error, trio.current_time() + 1)
    return [f"{record.levelname} {record.getMessage()}" for record in caplog.records]


async def test_outage_is_one_line_whatever_the_nodes_say(caplog: pytest.LogCaptureFixture):
    """That nobody serves a slot is what each node answers to who looks for its own."""
    nobody = Unreachable("no node has the slot of '{shop}:x': 127.0.0.1:1: CLUSTERDOWN Hash slot not served")
    (line,) = await _said(caplog, nobody, nobody, Unreachable("connection refused"))
    assert line.startswith("WARNING Redis at redis://127.0.0.1:1/0 is unreachable (no node has the slot of")


async def test_what_a_redis_that_is_there_refuses_has_a_line_for_each_kind_of_call(caplog: pytest.LogCaptureFixture):
    full = Unavailable("OOM command not allowed when used memory > 'maxmemory'")
    lines = await _said(caplog, full, full)
    assert [line.split(" refuses ")[1][:6] for line in lines] == ["call 0", "call 1"]
