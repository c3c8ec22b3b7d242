"""How a worker is: its pulse, which it tells twice a second to whoever watches over its process, and the answers to probes that follow from it. Pure."""

from __future__ import annotations

import attrs

STUCK_AFTER_S = 10.0
"""An event loop that has not got on for so long is stuck: a job blocks it, and nothing runs."""


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


@attrs.frozen
class Health:
    """What probes are answered. `live`: it gets on; `ready`: it fetches jobs; `drained`: it fetches none, and none runs. `text`: why, for people."""

    live: bool
    ready: bool
    drained: bool
    text: str


def health_of(pulse: Pulse, age_s: float) -> Health:
    """The health of a worker that last told of itself `age_s` seconds ago."""
    if age_s > STUCK_AFTER_S and not pulse.stopping:
        text = f"the event loop has been blocked for {age_s:.0f} s"
        return Health(live=False, ready=False, drained=False, text=text)
    if pulse.stopping:
        state = "stopping"
    elif pulse.quiet:
        state = "quiet"
    else:
        state = "running" if pulse.registered else "no heartbeat reaches Redis"
    return Health(live=True, ready=pulse.is_ready, drained=pulse.is_drained, text=f"{state}, {pulse.busy} running")
