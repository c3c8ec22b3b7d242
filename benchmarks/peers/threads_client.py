"""Enqueues with a client that blocks: one job after the other, which under Python's lock is faster than in threads."""

from __future__ import annotations

import time
from collections.abc import Callable

from common import arguments, command_line, pauses, timed

Send = Callable[[str, int, str], object]
SendMany = Callable[[str, list[tuple[int, str]]], object]


def run(send: Send, send_many: SendMany | None = None) -> None:
    """The three commands, over the functions that send a job and, where the peer has one, many."""

    def one(job: str, count: int, size: int) -> None:
        given = arguments(count, size)
        with timed():
            for n, text in given:
                send(job, n, text)

    def fill(job: str, count: int, size: int) -> None:
        if send_many is None:
            one(job, count, size)
            return
        given = arguments(count, size)
        with timed():
            for first in range(0, count, 1000):
                send_many(job, given[first : first + 1000])

    def stamps(count: int, pause_s: float) -> None:
        for pause in pauses(count, pause_s):
            time.sleep(pause)
            send("stamp", time.monotonic_ns(), "")

    command_line(fill, one, stamps)
