"""A batch into which a program streams, while people set the clock of its Redis. On one Python, with the newest Valkey: an older one takes no clock from libfaketime."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path
from typing import cast

import pytest
from servers import ClockedServer, wait_for

from trioworkers import Job
from trioworkers.broker.contract import Holder
from trioworkers.broker.holds.batches import cancel_abandoned
from trioworkers.broker.moves import RedisBroker
from trioworkers.broker.redis.connection import Link, connect
from trioworkers.errors import Refused
from trioworkers.jobs.client import Client
from trioworkers.wire.keys import Keys

here = partial(Job, runs_here=True)


@pytest.mark.skipif(
    ClockedServer.LIBRARY is None and "TRIOWORKERS_REQUIRE_INTEROP" not in os.environ,
    reason="libfaketime is missing (Debian: faketime)",
)
async def test_leap_of_the_clock_is_no_evidence_that_a_batch_is_abandoned(tmp_path: Path):
    """Its program has just added, or will; only time that many looks have seen cancels it."""
    server, day = ClockedServer(tmp_path).start(), 86_400.0
    try:
        async with connect(server.url, Link(server.url)) as connection:
            broker = RedisBroker(connection, Keys(), Holder("w", "lease", 30_000))

            async def looks(*clock: float) -> list[str]:
                ended: list[str] = []
                for ahead_s in clock:
                    server.set_clock(ahead_s)
                    wait_for(partial(is_ahead, ahead_s), "the clock is set")
                    ended += [each async for each in cancel_abandoned(connection, broker.keys)]
                return ended

            def is_ahead(ahead_s: float) -> bool:
                seconds, _ = cast("list[str]", server.command("TIME"))
                return abs(float(seconds) - time.time() - ahead_s) < 60

            batch, moved = (Client.around(broker).batch(abandoned_after=3600) for _ in range(2))
            for each in (batch, moved):
                await each.__aenter__()
                await each.add(here("q", "A"))
            assert await looks(0, 2 * day, 2 * day, 0, -2 * day, -2 * day, 0) == []
            assert await looks(2 * day) == []
            await batch.add(here("q", "A"))
            # Twenty minutes from look to look count as ten. One has seen twenty by now.
            slow = [2 * day + 1200 * n for n in range(1, 7)]
            assert await looks(*slow[:4]) == [moved.id]
            assert await looks(slow[4], slow[4] - day) == []
            assert await looks(slow[5]) == [batch.id]
            with pytest.raises(Refused, match="is cancelled"):
                await batch.add(here("q", "A"))
    finally:
        server.kill()
