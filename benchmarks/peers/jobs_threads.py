"""The jobs, as plain functions for threads, processes or greenlets; HTTP with requests, one session a thread, one call after the other."""

from __future__ import annotations

import threading
import time

from common import CALLS, HOLD_S, PUZZLE, SINK, WAIT_S, count, solve, stamped

_local = threading.local()


def empty(n: int, text: str) -> None:
    count()


def wait(n: int, text: str) -> None:
    time.sleep(WAIT_S)
    count()


def fan_out(n: int, text: str) -> None:
    import requests  # noqa: PLC0415 - after gevent has patched

    session = getattr(_local, "session", None)
    if session is None:
        session = _local.session = requests.Session()
    for name in CALLS:
        session.post(f"{SINK}/{name}", json={"id": n}, timeout=30).raise_for_status()
    count()


def sudoku(n: int, text: str) -> None:
    solve(PUZZLE)
    count()


def hold(n: int, text: str) -> None:
    count()
    time.sleep(HOLD_S)


def stamp(n: int, text: str) -> None:
    stamped(n)


JOBS = (empty, wait, fan_out, sudoku, hold, stamp)
