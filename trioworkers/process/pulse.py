"""What a worker tells, twice a second, to whoever watches over its process: words on a line. Also for the health port."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from trioworkers.engine.worker import Worker

INTERVAL_S = 0.5


@attrs.frozen
class Pulse:
    """`registered`: its last heartbeat reached Redis, and is fresh. `timeout_s`: what its running jobs get when it is stopped."""

    registered: bool = False
    quiet: bool = False
    stopping: bool = False
    busy: int = 0
    timeout_s: float = 25.0

    @property
    def is_ready(self) -> bool:
        """Whether it fetches jobs."""
        return self.registered and not self.quiet and not self.stopping

    @property
    def is_drained(self) -> bool:
        """Whether it fetches none, and none runs."""
        return (self.quiet or self.stopping) and not self.busy

    def encode(self) -> str:
        """As one line, without its end."""
        flags = (self.registered, self.quiet, self.stopping)
        return f"pulse {' '.join(str(int(flag)) for flag in flags)} {self.busy} {self.timeout_s:g}"


def decode(line: str) -> Pulse | None:
    """What `encode` wrote; None for anything else."""
    try:
        word, registered, quiet, stopping, busy, timeout_s = line.split()
        if word != "pulse":
            return None
        return Pulse(registered == "1", quiet == "1", stopping == "1", int(busy), float(timeout_s))
    except ValueError:
        return None


def pulse_of(worker: Worker) -> Pulse:
    """What a worker has to tell now. To be called in its event loop."""
    stats = worker.stats()
    busy = sum(stats.running.values())
    return Pulse(worker.is_registered, stats.quiet, stats.stopping, busy, worker.shutdown_timeout_s)


async def keep_telling(worker: Worker, tell: Callable[[Pulse], None]) -> None:
    """Until it is gone, or cancelled. That it goes on says that the event loop does."""
    import trio  # noqa: PLC0415 - who reads pulses has no Trio

    while not worker.gone.is_set():
        tell(pulse_of(worker))
        with trio.move_on_after(INTERVAL_S):  # or at once, with the news that it stops
            await (worker.gone if worker.stopping else worker.told_to_stop).wait()
