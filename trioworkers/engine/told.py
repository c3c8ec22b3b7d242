"""What a worker tells of itself to the program that it is part of: its health, its metrics."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from contextlib import suppress
from time import monotonic
from typing import Any

import trio

from trioworkers.errors import ConfigurationError
from trioworkers.health import STUCK_AFTER_S, Health, Pulse, health_of

PATIENCE_S = 1.0


def health(pulse: Pulse, token: trio.lowlevel.TrioToken | None, heard_at: float) -> Health:
    """From any thread. `token`: of its event loop, `heard_at`: when that last gave a sign of life by itself, by `time.monotonic()`.

    Whoever asks within the loop has the answer by being there. Others ask it only when it has been silent for long: during an outage of Redis, say.
    """
    age_s = monotonic() - heard_at
    if token is None or age_s <= STUCK_AFTER_S or _is_within(token) or _answers(token):
        age_s = 0.0
    return health_of(pulse, age_s)


def _is_within(token: trio.lowlevel.TrioToken) -> bool:
    return trio.lowlevel.in_trio_run() and trio.lowlevel.current_trio_token() is token


def _answers(token: trio.lowlevel.TrioToken) -> bool:
    answered = threading.Event()
    with suppress(trio.RunFinishedError):
        token.run_sync_soon(answered.set)
        return answered.wait(PATIENCE_S)
    return True  # it is over, in good order


def metrics(observers: Iterable[Any]) -> bytes:
    """What the App's `Metrics` says. Raises ConfigurationError if there is none."""
    for observer in observers:
        if callable(text := getattr(observer, "text", None)):
            return bytes(text())
    raise ConfigurationError(
        "there are no metrics: make Metrics(app), of trioworkers.observe.metrics, before the worker starts"
    )
