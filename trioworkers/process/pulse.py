"""Tells, twice a second, how the worker is, to whoever watches over its process. Also for the health port."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trioworkers.engine.worker import Worker
    from trioworkers.health import Pulse

INTERVAL_S = 0.5


async def keep_telling(worker: Worker, tell: Callable[[Pulse], None]) -> None:
    """Until it is gone, or cancelled. That it goes on says that the event loop does."""
    import trio  # noqa: PLC0415 - who reads pulses has no Trio

    while not worker.gone.is_set():
        tell(worker.pulse())
        with trio.move_on_after(INTERVAL_S):  # or at once, with the news that it stops
            await (worker.gone if worker.stopping else worker.told_to_stop).wait()
