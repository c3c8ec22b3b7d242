"""What a worker tells, with its heartbeat, of the hosts that its jobs call: values in, text out, and read back tolerantly."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import attrs
import msgspec

MOST_HOSTS = 20
"""It goes with each heartbeat: those that are paused, then those at which most waits."""
MAX_CHARACTERS = 100
_DECODER = msgspec.json.Decoder(list[tuple[str, int, int, int, int, float, str]])


@attrs.frozen
class HostState:
    """One host as one worker sees it. `calls`: under way; `waiting`: for their turn; `at_once`: how many may be under way, 0: as many as like.

    `failures`: of the last calls in a row; `paused_s`: for so many seconds more nobody calls it; inf: until one call that is let through has an answer; 0: it isn't paused.
    """

    host: str
    calls: int = 0
    waiting: int = 0
    at_once: int = 0
    failures: int = 0
    paused_s: float = 0.0
    failure: str = ""


def encode_hosts(states: Iterable[HostState]) -> bytes:
    """Those of which there is most to tell."""
    worst = sorted(states, key=lambda each: (not each.paused_s, -each.waiting, -each.failures, -each.calls, each.host))
    return msgspec.json.encode(
        [
            (
                each.host[:MAX_CHARACTERS],
                each.calls,
                each.waiting,
                each.at_once,
                each.failures,
                -1.0 if math.isinf(each.paused_s) else round(each.paused_s, 1),
                each.failure[:MAX_CHARACTERS],
            )
            for each in worst[:MOST_HOSTS]
        ]
    )


def decode_hosts(text: bytes) -> Sequence[HostState]:
    """Nothing of what is none of ours."""
    try:
        rows = _DECODER.decode(text)
    except (ValueError, RecursionError):
        return ()
    return tuple(map(_state, rows[:MOST_HOSTS]))


def _state(row: tuple[str, int, int, int, int, float, str]) -> HostState:
    host, calls, waiting, at_once, failures, paused_s, failure = row
    return HostState(
        host[:MAX_CHARACTERS],
        max(calls, 0),
        max(waiting, 0),
        max(at_once, 0),
        max(failures, 0),
        math.inf if paused_s < 0 else paused_s,
        failure[:MAX_CHARACTERS],
    )
