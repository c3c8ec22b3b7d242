"""Keeps jobs from making their process deaf.

What would (to ignore a signal of ours, to give it back to the kernel, to take the wake-up descriptor) is not done while the guard is on, and
said. A handler of their own jobs may have: it is called beside us, and what it raises stays with its job (`raising.py`).
"""

from __future__ import annotations

import _thread
import faulthandler
import logging
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from trioworkers.aside import aside
from trioworkers.printable import on_one_line
from trioworkers.process.raising import as_it_was_set, contained, running_job

ALARMS = (signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF)
"""They come from timers that somebody in this process has set, and end it where nobody handles them."""
IGNORED = (signal.SIGPIPE, signal.SIGXFSZ)
"""Python ignores them: a write says itself that nobody reads it, or that a file is too large. Else the next one would end the process."""

set_handler, set_wakeup_fd, register_dump = signal.signal, signal.set_wakeup_fd, faulthandler.register
send, send_to_group, send_here = os.kill, os.killpg, signal.raise_signal
send_to_thread, interrupt = signal.pthread_kill, _thread.interrupt_main
take_turns_of = sys.setswitchinterval
"""Python's own, whoever stands before them."""


class Guard:
    """Of the signals `heard`, `stops` among them, and of the wake-up descriptor over which they are. Of use in the main thread."""

    def __init__(self, heard: Sequence[signal.Signals], stops: Sequence[signal.Signals], wakeup_fd: int) -> None:
        self._heard = heard
        self._stops = stops
        self._wakeup_fd = wakeup_fd
        self.their_wakeup_fd = -1
        """What somebody else wanted there; -1: nobody."""
        self.is_on = False
        """Whether it keeps jobs from that, just now."""
        self.senders: set[Any] = set()
        """The jobs that told this process to stop, each as its delivery."""
        self._depth, self._turn_s = 0, 0.0

    @contextmanager
    def on(self) -> Iterator[None]:
        """Within the block nobody makes us deaf; whatever was done before it is put right."""
        for number in self._heard:
            set_handler(number, heard_elsewhere)
        set_wakeup_fd(self._wakeup_fd, warn_on_full_buffer=False)
        self.their_wakeup_fd = -1
        self.senders = set()
        self.is_on = True
        self._depth, self._turn_s = sys.getrecursionlimit(), sys.getswitchinterval()
        theirs = self._contain_theirs()
        for alarm in ALARMS:
            if signal.getsignal(alarm) is signal.SIG_DFL:
                set_handler(alarm, nobodys_alarm)
        signal.signal, signal.set_wakeup_fd = self._signal, self._take_wakeup_fd  # type: ignore[assignment]
        faulthandler.register = self._register_dump
        os.kill, os.killpg, signal.raise_signal = self._kill, self._killpg, self._raise_signal
        signal.pthread_kill, _thread.interrupt_main = self._pthread_kill, self._interrupt_main
        sys.setswitchinterval = self._take_turns_of
        try:
            yield
        finally:
            self.is_on = False
            self.drop()
            for other in theirs:  # those of jobs stay contained: there is still the interpreter's end to come
                set_handler(other, as_it_was_set(signal.getsignal(other)))

    def _contain_theirs(self) -> Sequence[int]:
        """The handlers that the program set before us."""
        others = signal.valid_signals() - {*self._heard}
        theirs = [number for number in others if callable(signal.getsignal(number))]
        for other in theirs:
            set_handler(other, contained(signal.getsignal(other)))
        return theirs

    def leave_alarms(self) -> None:
        """In a forked child: what it sets timers for is its own affair."""
        for alarm in ALARMS:
            if signal.getsignal(alarm) is nobodys_alarm:
                set_handler(alarm, signal.SIG_DFL)

    def drop(self) -> None:
        """Stand before Python's functions no longer."""
        signal.signal, signal.set_wakeup_fd = set_handler, set_wakeup_fd
        faulthandler.register = register_dump
        os.kill, os.killpg, signal.raise_signal = send, send_to_group, send_here
        signal.pthread_kill, _thread.interrupt_main = send_to_thread, interrupt
        sys.setswitchinterval = take_turns_of

    def keep_limits(self) -> None:
        """Undo what a job has set lower, or longer, than the program has it: nothing here would work under it. From any thread but the loop's."""
        if self.is_on and sys.getrecursionlimit() < self._depth:
            text = "a job set the recursion limit to %d; it is %d again"
            aside.log(logging.WARNING, text, sys.getrecursionlimit(), self._depth)
            sys.setrecursionlimit(self._depth)
        self._keep_turns()

    def _keep_turns(self) -> None:
        # A thread that computes keeps all others waiting for so long: whoever hears signals, too.
        if self.is_on and (turn_s := sys.getswitchinterval()) > self._turn_s:
            take_turns_of(self._turn_s)
            text = "a job set the interval in which threads take turns to %g s; it stays %g s, or nobody would hear signals meanwhile"
            aside.log(logging.WARNING, text, turn_s, self._turn_s)

    def _take_turns_of(self, interval: float, /) -> None:
        take_turns_of(interval)
        self._keep_turns()

    @property
    def is_passed(self) -> bool:
        """Whether somebody has got past it. From any thread."""
        return self.is_on and any(deafens(signal.getsignal(number)) for number in self._heard)

    def mend(self) -> None:
        """Undo what was done behind its back."""
        for number in self._heard:
            if deafens(handler := signal.getsignal(number)):
                _say_kept(number, handler, _STOPS)
                set_handler(number, heard_elsewhere)

    def pass_on(self, numbers: bytes) -> None:
        """Tell whoever wanted the wake-up descriptor what came."""
        if self.is_on and self.their_wakeup_fd != -1:
            with suppress(OSError):  # full, or closed; it is theirs
                if not os.get_blocking(self.their_wakeup_fd):  # else nobody may read it, and we would wait
                    os.write(self.their_wakeup_fd, numbers)

    def _signal(self, number: int, handler: Any) -> Any:
        if number in self._heard and deafens(handler):
            _say_kept(number, handler, _STOPS)
            return set_handler(number, heard_elsewhere)
        if handler is signal.SIG_DFL and number in IGNORED:
            _say_kept(number, handler, "which the next %s would end")
            return _as_it_was_set(set_handler(number, signal.SIG_IGN))
        if handler is signal.SIG_IGN and number == signal.SIGCHLD:
            _say_kept(number, handler, "which %s tells how its children end")
            return _as_it_was_set(set_handler(number, signal.SIG_DFL))
        theirs = nobodys_alarm if handler is signal.SIG_DFL and number in ALARMS else contained(handler)
        return _as_it_was_set(set_handler(number, theirs))

    def _kill(self, pid: int, number: int, /) -> None:
        # The parent too: it may be one that stops with its children.
        if pid in (0, -1, os.getpid(), os.getppid(), -os.getpgrp()):
            self._note_sender(number)
        send(pid, number)

    def _killpg(self, pgid: int, number: int, /) -> None:
        if pgid in (0, os.getpgrp()):
            self._note_sender(number)
        send_to_group(pgid, number)

    def _raise_signal(self, number: int, /) -> None:
        self._note_sender(number)
        send_here(number)

    def _pthread_kill(self, thread_id: int, number: int, /) -> None:
        self._note_sender(number)
        send_to_thread(thread_id, number)

    def _interrupt_main(self, number: int = signal.SIGINT, /) -> None:
        self._note_sender(number)
        interrupt(number)  # type: ignore[arg-type]  # any number will do

    def _note_sender(self, number: int) -> None:
        if number not in self._heard:
            return
        job = running_job()
        if job is not None and number in self._stops:
            self.senders.add(job)
        # Of a thread nobody knows whose it is. It may be the program's own, which begins anew when it takes too much memory: no job is to be charged with that.
        which = "a thread, or a task of no job," if job is None else f"job {job.jid} ({job.job_class})"
        aside.log(logging.WARNING, "%s sent %s to its own worker", on_one_line(which), signal.Signals(number).name)

    def _register_dump(self, signum: int, file: Any = None, all_threads: bool = True, chain: bool = False) -> None:  # noqa: FBT002 - Python's signature
        # What it sets is a handler of C's, which Python doesn't know of: one of ours it shall call, too.
        register_dump(signum, sys.stderr if file is None else file, all_threads, chain or signum in self._heard)

    def _take_wakeup_fd(self, fd: int, *, warn_on_full_buffer: bool = True) -> int:  # noqa: ARG002 - Python's signature
        # Not refused: Trio wants one, and another event loop in a job may. What comes is passed on to it. But for what Python refuses:
        if threading.current_thread() is not threading.main_thread():
            raise ValueError("set_wakeup_fd only works in main thread of the main interpreter")
        if fd != -1 and os.get_blocking(fd):
            raise ValueError(f"the fd {fd} must be in non-blocking mode")
        before, self.their_wakeup_fd = self.their_wakeup_fd, fd
        return before


def deafens(handler: object) -> bool:
    """Whether Python hears nothing under it; or it, that INT be raised in whatever runs, which is what the first of our handlers replaced."""
    return handler in (signal.SIG_IGN, signal.SIG_DFL, signal.default_int_handler, None)


def heard_elsewhere(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - Python's signature
    """Python must have a handler, or its C code hands nothing on. It counts: what comes by a full descriptor is lost."""
    came[number] += 1


came: Counter[int] = Counter()
"""How often the handler of a signal was called: once for one or more of them, each of which had gone to the wake-up descriptor before, if that had room."""


def nobodys_alarm(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - Python's signature
    """Stands where a timer would end the process. Said once: a timer may repeat itself a thousand times a second."""
    if number in _told:
        return
    _told.add(number)
    text = "%s came, from a timer of a job that doesn't handle it: ignored, now and later"
    aside.log(logging.WARNING, text, signal.Signals(number).name)


_told: set[int] = set()


def _as_it_was_set(handler: Any) -> Any:
    return signal.SIG_DFL if handler is nobodys_alarm else as_it_was_set(handler)


_STOPS = "which %s stops or tells where it is"


def _say_kept(number: int, handler: object, whose: str) -> None:
    name, what = signal.Signals(number).name, getattr(handler, "name", getattr(handler, "__name__", handler))
    aside.log(logging.WARNING, f"a job set %s to %s; it stays the worker's, {whose}", name, what, name)
