"""Keeps the lease while a job blocks the event loop, and says where it is blocked.

A thread asks the loop for a sign of life. A worker whose loop is busy computing is not dead: its lease is renewed for it, over a
connection that is opened only then, so that nobody else takes its jobs over. Only for so long, though: a deadlock shall be
recovered in the end. Code that holds the interpreter's lock blocks this thread as well. What it has to say is said by another thread: what
blocks the loop may be the log itself, a pipe that nobody reads.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from time import monotonic
from types import FrameType

import trio

from trioworkers.aside import aside
from trioworkers.broker.emergency import Lists, renew_leases
from trioworkers.printable import Lines
from trioworkers.stacks import calls_of, outer_frames

AGAIN_AFTER_S = 0.1
TOLERANCE_S = 1.0
"""Blocked for longer than this (or a quarter of the lease): said once, and the lease is renewed from here."""

LONGEST_STALL_S = 300.0
SHOWN_FRAMES = 4


@contextmanager
def watching(
    lists: Sequence[Lists], heard_at: Callable[[], float], *, longest_stall_s: float = LONGEST_STALL_S
) -> Iterator[None]:
    """Watch the current event loop within the block, for the worker with these lists.

    `heard_at`: when the loop last gave a sign of life by itself, on `time.monotonic()`'s clock. As long as it does, or waits for
    its sockets, it isn't asked, so that an idle worker isn't woken for nothing.
    """
    watchdog = _Watchdog(lists, heard_at, longest_stall_s)
    thread = threading.Thread(target=watchdog.watch, name="trioworkers-watchdog", daemon=True)
    thread.start()
    try:
        yield
    finally:
        watchdog.ended.set()
        thread.join(TOLERANCE_S)


class _Watchdog:
    def __init__(self, lists: Sequence[Lists], heard_at: Callable[[], float], longest_stall_s: float) -> None:
        self._lists = lists
        self._heard_at = heard_at
        self._longest_stall_s = longest_stall_s
        self._tolerance_s = min(TOLERANCE_S, lists[0].holder.lease_ms / 4000)
        self._token = trio.lowlevel.current_trio_token()
        self._loop_thread = threading.get_ident()
        self.ended = threading.Event()

    def watch(self) -> None:
        """Until `ended`, whatever is raised in this thread: a job may raise in all threads."""
        while not self.ended.is_set():
            with suppress(BaseException):
                self._watch()
            with suppress(BaseException):
                self.ended.wait(AGAIN_AFTER_S)  # it may raise each time

    def _watch(self) -> None:
        """When it is silent ask, wait for the answer, and again, until `ended`."""
        patience_s = self._tolerance_s * 1.1  # of a loop that gives a sign once a second, all of them come in time
        answered_at = monotonic()
        while not self.ended.wait(max(0.0, max(self._heard_at(), answered_at) + patience_s - monotonic())):
            asked_at = monotonic()
            if self._heard_at() + patience_s > asked_at:
                continue
            if self._is_waiting():
                answered_at = asked_at
                continue
            answered = threading.Event()
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(answered.set)
                # Twice: a process that was frozen as a whole shall have the chance to answer when it goes on.
                if not answered.wait(self._tolerance_s) and not answered.wait(self._tolerance_s / 5):
                    self._stand_in(asked_at, answered)
            answered_at = monotonic()

    def _stand_in(self, since: float, answered: threading.Event) -> None:
        text = "the event loop is blocked for %.1f s now; await, or compute with ctx.run_cpu. It is here:\n%s"
        aside.log(logging.WARNING, text, monotonic() - since, self._where())
        gave_up = False
        while not self.ended.is_set():
            if monotonic() - since < self._longest_stall_s:
                with suppress(Exception):  # Redis may be away: next time
                    trio.run(renew_leases, self._lists)
            elif not gave_up:
                gave_up = True
                aside.log(logging.ERROR, "blocked for %.0f s: other workers may take over", self._longest_stall_s)
            if answered.wait(self._tolerance_s):
                break
        if not self.ended.is_set():
            aside.log(logging.WARNING, "the event loop goes on after %.1f s", monotonic() - since)

    def _is_waiting(self) -> bool:
        """Whether the loop sleeps until somebody needs it: nothing blocks it then, and to ask would only wake it."""
        frame = self._frame()
        return (
            frame is not None
            and str.__eq__(
                frame.f_code.co_name, "get_events"
            )  # as str has it: code of jobs may be named by texts of their own kind
            and str(dict.get(frame.f_globals, "__name__")).startswith("trio._core._io_")
        )

    def _frame(self) -> FrameType | None:
        return sys._current_frames().get(self._loop_thread)  # noqa: SLF001 - the documented way to see another thread

    def _where(self) -> str:
        frame = self._frame()
        return Lines("".join(calls_of(outer_frames(frame, SHOWN_FRAMES)).format()).rstrip())
