"""What a worker tells of itself: its health, from its own event loop and from other threads."""

from __future__ import annotations

import math
import threading
import time

import trio

from trioworkers import App, Context
from trioworkers.engine import told
from trioworkers.health import STUCK_AFTER_S, Pulse

RUNS = Pulse(registered=True)


async def test_health_of_a_worker_through_its_life(redis_url: str):
    app = App(redis_url)
    app.queue("q")

    @app.handler("q", "Never")
    async def never(_: Context) -> None: ...

    async with trio.open_nursery() as nursery:
        worker = await nursery.start(app.serve)
        with trio.fail_after(30):
            while not worker.health().ready:
                await trio.sleep(0.01)
        from_elsewhere = await trio.to_thread.run_sync(worker.health)
        assert (from_elsewhere.live, from_elsewhere.ready, from_elsewhere.drained) == (True, True, False)
        worker.quiet()
        quiet = worker.health()
        assert (quiet.live, quiet.ready, quiet.drained) == (True, False, True)
        assert quiet.text == "quiet, 0 running"
        worker.stop()
        assert worker.health().text == "stopping, 0 running"


async def test_a_blocked_loop_is_not_live_for_who_asks_from_another_thread():
    token, silent_since = trio.lowlevel.current_trio_token(), time.monotonic() - 2 * STUCK_AFTER_S
    found = []
    thread = threading.Thread(target=lambda: found.append(told.health(RUNS, token, silent_since)))
    thread.start()
    thread.join()  # and this loop is blocked
    assert (found[0].live, found[0].ready) == (False, False)
    assert "blocked for 2" in found[0].text


async def test_a_loop_that_answers_is_live_however_long_redis_has_been_silent():
    token = trio.lowlevel.current_trio_token()
    assert told.health(RUNS, token, -math.inf).live
    answer = await trio.to_thread.run_sync(told.health, Pulse(), token, time.monotonic() - 1000)
    assert (answer.live, answer.ready) == (True, False)
    assert answer.text == "no heartbeat reaches Redis, 0 running"
