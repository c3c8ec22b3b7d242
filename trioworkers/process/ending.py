"""Sees to it that the process ends in time: its worker, and what is in the interpreter's way out.

The clock runs from the moment in which the worker is told to stop. It is a thread: a job may block the event loop. And it goes on when
the worker is gone: threads that a job started, its executors, exit functions and children are waited for by the interpreter, for ever
if need be. What a program does of its own accord after `app.run()` has returned is its own business, though, and has all the time it wants.
"""

from __future__ import annotations

import _thread
import atexit
import logging
import math
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from threading import Condition, Event
from time import monotonic, sleep

from trioworkers.aside import aside

HARD_EXIT_AFTER_S = 1.2
"""After the deadline: by then a worker whose jobs behave is gone. What is left is put back by us, and the process ends."""

LAST_CALL_S = 0.5
"""What putting back may take then."""

WAY_OUT_S = 0.5
"""What the interpreter gets for its end at the least, however late it begins."""

LAST_WORDS_S = 0.1


class Ending:
    """The end of a process, which comes in time. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._watch_pid: int | None = None  # a process: a fork's child has none of our threads
        self._ends_at = math.inf
        self._over = False
        self.is_last = False
        """Whether the program does nothing when its worker is gone."""
        self._leaving_at = math.inf
        self._timeout_s = 0.0
        self._watched = False
        self._status: int | None = None
        self._written: Event | None = None
        self._all_done = Event()
        self._last_call: Callable[[], None] = lambda: None
        self._reason: Callable[[], object] = lambda: None
        self.on_leaving: Callable[[], None] = lambda: None
        """Called when the interpreter begins to end, in its main thread."""

    def begin(self, last_call: Callable[[], None], reason: Callable[[], object]) -> None:
        """A worker's life begins. `last_call`: sees to its jobs if it can't; `reason`: why it ended if that was no stop: then the status is 1."""
        with self._changed:
            self._ends_at, self._over, self._last_call, self._reason = math.inf, False, last_call, reason

    def nothing_follows(self) -> None:
        """The program does nothing when its worker is gone: the way out begins there, and whatever Python does on it by itself is bounded, too.

        A destructor may block wherever garbage is looked for, what Python has to say of one that raised may find a full pipe.
        """
        self.is_last = True

    def expect(self, in_s: float) -> None:
        """The process shall end soon after `in_s` seconds from now. A later call can only bring that nearer."""
        self._expect(monotonic() + max(in_s, 0.0) + HARD_EXIT_AFTER_S)

    def over(self, timeout_s: float) -> None:
        """The worker is gone. When the interpreter ends, what is in its way gets what is left of the time, or `timeout_s` if none was set."""
        with self._changed:
            self._over, self._timeout_s = True, timeout_s
            if self.is_last:
                self._leaving_at = monotonic()
                self._changed.notify_all()
            if not self._watched:
                self._watched = True
                _before_threads_are_waited_for(self._leave)
        if self._ends_at == math.inf:
            self.expect(timeout_s)

    def ends_with(self, status: int) -> None:
        """A program that has had a worker has nothing left to do but its exit functions: after these the process ends, with this status.

        Python would go on to take its modules apart, which no thread of ours survives: what an object does then when it is deleted has no bound.
        """
        if not self._over:
            return
        self._status = status
        # Started now: later Python may start none any more. If it can't be, nothing bounds them.
        self._written = _beside(self._write_last_words)

    def finish(self) -> None:
        """The last of the exit functions."""
        if self._status is None:
            return
        self._all_done.set()
        if self._written is None:
            self._write_last_words()
        else:
            self._written.wait(max(LAST_WORDS_S, self._due_at() - monotonic()))
        os._exit(self._status)

    def _write_last_words(self) -> None:
        self._all_done.wait()
        with suppress(Exception):  # a handler of theirs
            logging.shutdown()
        _flush()

    def exit_now(self, status: int = 0) -> None:
        """End the process as it stands, with what it has started. Status 0, as being stopped is not failing; 1 if it stopped by itself."""
        try:
            reason = self._reason()
            status = status if reason is None else 1
            if reason is not None:
                aside.log(logging.ERROR, "ended with status 1: %s", reason)
            kill_children()
            flush(LAST_WORDS_S)
        finally:
            os._exit(status)

    def _expect(self, ends_at: float) -> None:
        with self._changed:
            if ends_at >= self._ends_at:
                return
            self._ends_at = ends_at
            if self._watch_pid != os.getpid():
                _beside(self._watch)  # if it can't be started, `check` sees to it
            self._changed.notify_all()

    def check(self) -> None:
        """End the process if that is due and nobody else would. For a thread that comes by now and then."""
        with self._changed:
            if self._watch_pid == os.getpid() or self._ends_at == math.inf:
                return
            is_due = self._due_at() <= monotonic()
        if is_due:
            self._watch()

    def _leave(self) -> None:
        with self._changed:
            self._leaving_at = min(self._leaving_at, monotonic())
            self._changed.notify_all()
        self.on_leaving()

    def _due_at(self) -> float:
        if not self._over:
            return self._ends_at
        went_on = (
            self._leaving_at > self._ends_at + WAY_OUT_S
        )  # the program did, by itself: its end is no part of a stop
        return max(self._ends_at, self._leaving_at + (self._timeout_s if went_on else WAY_OUT_S))

    def _watch(self) -> None:
        with self._changed:
            if self._watch_pid == os.getpid():
                return
            self._watch_pid = os.getpid()
            while (left_s := self._due_at() - monotonic()) > 0:
                self._changed.wait(None if left_s == math.inf else left_s)
            over = self._over
        if over:
            aside.log(
                logging.WARNING,
                "threads, exit functions or children of jobs keep the process alive: it ends without them",
            )
        else:
            self._put_back()
        self.exit_now()

    def _put_back(self) -> None:
        """For a worker that didn't end. Bounded: what blocks it may block this too."""
        began = Event()
        limited = _beside(partial(self._exit_after_last_call, began))
        if limited is None or not began.wait(LAST_CALL_S):  # without a bound nothing is tried, and jobs are taken over
            return
        aside.log(logging.ERROR, "the worker did not end by its deadline: the process ends")
        with suppress(Exception):  # Redis may be away; then they stay in progress, and are taken over
            self._last_call()

    def _exit_after_last_call(self, began: Event) -> None:
        began.set()
        sleep(LAST_CALL_S)
        self.exit_now()


def flush(timeout_s: float) -> None:
    """Have written what is still in buffers, if somebody reads it."""
    flushed = _beside(_flush)
    if flushed is not None:
        flushed.wait(timeout_s)


def _beside(function: Callable[[], None]) -> Event | None:
    """Call that in a thread of its own. Returns what is set when it has returned, or None if there can be no thread.

    Not by `threading.Thread`, whose start waits until the thread runs: where memory is short it may end before, and the wait wouldn't.
    """
    done = Event()

    def run() -> None:
        try:
            function()
        finally:
            done.set()

    try:
        _thread.start_new_thread(run, ())
    except (
        RuntimeError,
        MemoryError,
    ):  # jobs have all the threads, or the memory, that there may be, or the interpreter ends
        return None
    return done


def _flush() -> None:
    aside.settle(LAST_WORDS_S)
    streams = [handler for handler in logging.getLogger().handlers if isinstance(handler, logging.Handler)]
    for stream in (*streams, sys.stdout, sys.stderr):
        with suppress(Exception):  # closed, or None
            stream.flush()


def kill_children() -> None:
    """Those in which jobs compute, and those that they started through multiprocessing: nobody waits for them any more."""
    # Who has such children has imported what starts them; most workers haven't.
    if (compute := sys.modules.get("trioworkers.jobs.compute_process")) is not None:
        compute.kill_all()
    if (multiprocessing := sys.modules.get("multiprocessing")) is not None:
        for child in multiprocessing.active_children():
            with suppress(Exception):  # another thread may have waited for it just now
                child.kill()


def _before_threads_are_waited_for(function: Callable[[], None]) -> None:
    # As concurrent.futures does, which waits for its threads there; what `atexit` knows comes after all waiting.
    register = getattr(threading, "_register_atexit", None) or atexit.register
    with suppress(RuntimeError):  # too late: the interpreter ends already
        register(function)


ending = Ending()
"""The only one: a process ends once."""
# Registered before anything of the user's is imported, so that it is called when all of that is done.
atexit.register(ending.finish)
