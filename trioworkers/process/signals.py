"""Hears the process's signals: TERM and INT stop, TSTP quiets, TTIN tells where jobs are. Nothing else touches signals.

They are heard by a thread, over the wake-up descriptor that Python's C code writes to at once. So they are heard even while a job
blocks the event loop for good, and while a program is still being imported.

Jobs share the process; what keeps them from making it deaf is in `guard.py`. A forked child has its parent's handlers and descriptors: it
is given back what was there before us, before any signal reaches it.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import struct
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

import trio

from trioworkers.aside import aside
from trioworkers.printable import Lines
from trioworkers.process.ending import ending, flush
from trioworkers.process.guard import (
    ALARMS,
    Guard,
    came,
    deafens,
    heard_elsewhere,
    nobodys_alarm,
    set_handler,
    set_wakeup_fd,
)
from trioworkers.process.logs import ensure_logging_soon
from trioworkers.process.raising import Contained
from trioworkers.process.stray import strand
from trioworkers.stacks import calls_of, outer_frames

if TYPE_CHECKING:
    from trioworkers.engine.worker import Worker

logger = logging.getLogger("trioworkers")

STOP = (signal.SIGTERM, signal.SIGINT)
HEARD = (*STOP, signal.SIGTSTP, signal.SIGTTIN)

INTERRUPTED = 130

LAST_WORDS_S = 5.0
"""What an end that nothing hurries gets, so that its reason is written, and the program may come to it by itself."""
LOOK_EVERY_S = 0.05

AT_ONCE = 16
"""So many are taken; where there were fewer, no more had come."""

CHECK_S = 1
"""How often we look whether Python still hands our signals on; what gets past us is mended then."""


class Ear:
    """The thread that hears signals, and what they are for: an import, a start, a worker."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)  # noqa: FBT003 - the socket's own interface
        # Not by `settimeout`: that asks `poll`, which refuses all once a job has set its limit of open files to none.
        self._reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", CHECK_S, 0))
        self._ends = _found((self._reader, self._writer))
        self._came = Counter[int]({number: came[number] for number in HEARD})
        """How often each has been heard, at the least as often as its handler was called."""
        self._checked_at = monotonic()
        self._stops = 0
        self._quiet_asked = False
        self._worker: Worker | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._timeout_s = 0.0
        self._before: dict[signal.Signals, Any] = {}
        self._guard = Guard(HEARD, STOP, self._writer.fileno())
        self.on_stop: Callable[[int], None] = self._stop

    # ── whom they are for ──────────────────────────────────────────────────────────────────────────────────────────────

    def start(self, on_stop: Callable[[int], None], timeout_s: float) -> None:
        """From now on a stop is for this, called in the event loop. Until there is a worker it gets `timeout_s` seconds to clean up."""
        self._token = trio.lowlevel.current_trio_token()
        self.on_stop, self._timeout_s = on_stop, timeout_s

    def attend(self, worker: Worker) -> None:
        """From now on signals are for this worker."""
        self._worker, self._timeout_s = worker, worker.shutdown_timeout_s
        self.on_stop = self._stop
        if self._quiet_asked:
            worker.quiet()

    def guarding(self) -> AbstractContextManager[None]:
        """Within the block nobody makes us deaf."""
        return self._guard.on()

    # ── hearing ────────────────────────────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Hear signals within the block. In the main thread."""
        # Python must have a handler, or its C code hands nothing on; it has nothing to do itself.
        self._before = {number: set_handler(number, heard_elsewhere) for number in HEARD}
        self._guard.their_wakeup_fd = set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        thread = threading.Thread(target=self._listen, name="trioworkers-signals", daemon=True)
        thread.start()
        mask = _hear_again()
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            # A job may have closed it: then it is no descriptor any more, or another one.
            with suppress(OSError, ValueError):
                set_wakeup_fd(self._guard.their_wakeup_fd)
            # What comes between here and the interpreter's end must not change the status either.
            if not ending.is_last:
                for number, handler in self._before.items():
                    set_handler(number, handler or signal.SIG_DFL)  # None: it was not Python's
            with suppress(OSError):  # as above
                self._reader.shutdown(socket.SHUT_RDWR)  # closing would not do: a forked child may hold it open, too
            thread.join(CHECK_S * 2)
            for end in (self._reader, self._writer):
                with suppress(OSError):
                    end.close()

    def _listen(self) -> None:
        """Until it is closed, whatever is raised in this thread: a job may raise in all threads."""
        is_open = True
        while is_open:
            with suppress(BaseException):
                is_open = self._listen_once()

    def _listen_once(self) -> bool:
        """Wait for signals or the next look at what jobs did. Returns whether there will be more."""
        called = came.copy()
        numbers = b""
        try:
            # Not taken yet: what others raise in us comes out when this has been waited for, and would lose what came.
            self._reader.recv(1, socket.MSG_PEEK)
            numbers = self._reader.recv(AT_ONCE)
        except BlockingIOError:  # nothing came for so long
            pass
        except OSError:  # a job has closed it
            self._guarded(self._end_deaf)
            return False
        else:
            if not numbers:  # shut down, by us or by a job
                self._guarded(self._end_deaf)
                return False
        self._guarded(self._guard.pass_on, numbers)
        self._guarded(self._guard.keep_limits)
        for number in numbers:
            self._came[number] += 1
            self._guarded(self._hear, number)
        if len(numbers) < AT_ONCE:
            self._hear_lost(called)
        if monotonic() >= self._checked_at + CHECK_S:
            self._checked_at = monotonic()
            self._guarded(self._check)
        return True

    def _hear_lost(self, called: Mapping[int, int]) -> None:
        """Hear what found no room there, for the signals of a job's timer while it kept all threads from running. `called`: how often handlers had been, before all was taken that had come."""
        for number in HEARD:
            if called[number] > self._came[number]:
                self._came[number] = called[number]
                self._guarded(self._hear, number)

    def _guarded(self, function: Callable[..., object], *args: object) -> None:
        """Whatever goes wrong (no thread can be started, no memory is left), the next signal is heard."""
        try:
            function(*args)
        except Exception as error:  # noqa: BLE001 - as above
            aside.log(logging.ERROR, "a signal could not be obeyed: %r", error)

    def _check(self) -> None:
        """Mend what jobs did: behind our guard, through Python's C functions, say (in the loop: only the main thread may), and to logging."""
        ending.check()
        if self._ends != _found((self._reader, self._writer)):
            self._end_deaf()
            return  # what has their numbers now isn't ours
        self._reader.setblocking(True)  # noqa: FBT003 - else whoever waits for signals would not wait
        self._writer.setblocking(False)  # noqa: FBT003 - else a signal would
        self._guard.keep_limits()
        if self._guard.is_passed:
            self._tell(self._guard.mend)
        ensure_logging_soon()

    def _end_deaf(self) -> None:
        """What signals come by is closed or shut down. If a job did so, end as a crash does: nothing would be heard any more, for ever."""
        if not self._guard.is_on:  # we did so ourselves
            return
        text = "a job closed what signals are heard by: the process ends; its jobs stay in progress, safe in Redis, and are taken over as after a crash"
        aside.log(logging.ERROR, text)
        aside.settle(LAST_WORDS_S)
        flush(LAST_WORDS_S)
        until = monotonic() + LAST_WORDS_S
        while self._guard.is_on and monotonic() < until:  # the event loop may have broken, too: it says more
            sleep(LOOK_EVERY_S)
        if self._guard.is_on:
            ending.exit_now(1)

    def _hear(self, number: int) -> None:
        if number in STOP and self._token is None:
            self._give_up(number)
        elif number in STOP:
            self._hear_stop()
        elif number == signal.SIGTSTP:
            self._tell(self._quiet)
        elif number == signal.SIGTTIN:
            self._dump()

    def _give_up(self, number: int) -> None:
        """Stopped while the program is being imported: nothing is to be saved, and whatever it waits for, it waits no longer."""
        if number == signal.SIGINT:  # by Ctrl-C, as any command
            ending.exit_now(INTERRUPTED)
        aside.log(logging.INFO, "stopping before it has started: no job was fetched")
        ending.exit_now()

    def _hear_stop(self) -> None:
        self._stops += 1
        if self._stops > 2:
            aside.log(logging.ERROR, "third signal: ending at once; running jobs stay in progress, safe in Redis")
            ending.exit_now()
        try:
            ending.expect(self._timeout_s if self._stops == 1 else 0.0)
        finally:  # whatever a job did to what bounds the end
            self._tell(self.on_stop, self._stops)

    def _quiet(self) -> None:
        self._quiet_asked = True  # of a worker that has not started yet, too: who has sent it doesn't send it again
        if self._worker is not None:
            self._worker.quiet()

    def _stop(self, stops: int) -> None:
        if self._worker is None:
            return
        if self._guard.senders:  # else a job that stops its worker time and again would do so for ever
            self._worker.blame_jobs(self._guard.senders)
        self._worker.stop(None if stops == 1 else 0.0)

    def _tell(self, function: Callable[..., object], *args: object) -> None:
        if self._token is None:
            function(*args)
            return
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._guarded, function, *args)  # what is raised there ends Trio

    def _dump(self) -> None:
        worker, answered = self._worker, threading.Event()

        def dump() -> None:
            answered.set()
            if worker is not None:
                logger.warning("running jobs:\n%s", Lines("\n".join(worker.describe_jobs()) or "none"))

        def complain() -> None:
            if worker is None or not answered.wait(1.0):
                what = "the event loop is blocked" if worker is not None else "the worker has not started"
                aside.log(logging.ERROR, "%s; this is where:\n%s", what, _where_threads_are())

        self._tell(dump)
        threading.Thread(target=complain, daemon=True).start()

    # ── what a fork inherits ───────────────────────────────────────────────────────────────────────────────────────────

    def let_go(self) -> None:
        """In a forked child: give back what was there before us. Our thread doesn't exist here."""
        set_wakeup_fd(-1)
        self._guard.drop()
        self._guard.leave_alarms()
        for number, handler in self._before.items():
            set_handler(number, handler or signal.SIG_DFL)
        self._reader.close()
        self._writer.close()


@contextmanager
def hearing() -> Iterator[Ear]:
    """Hear signals within the block, in the main thread. Within another such block: its ear."""
    global _ear  # noqa: PLW0603 - a process has one
    if _ear is not None:
        yield _ear
        return
    _heed_forks()
    ending.on_leaving = _stay_deaf
    _ear = Ear()
    try:
        with _ear.listening():
            yield _ear
    finally:
        _ear = None


def _found(ends: Sequence[socket.socket]) -> list[int]:
    """What their descriptors lead to: something else, or nothing, once somebody has closed them by their numbers."""
    try:
        return [os.fstat(end.fileno()).st_ino for end in ends]
    except OSError:
        return []


_ear: Ear | None = None
_heeds_forks = False
_masks: dict[int, set[int]] = {}


def _hear_again() -> set[signal.Signals]:
    """Whoever has started us may have blocked what we hear. Returns what was blocked.

    Or may ignore SIGCHLD: then the kernel forgets how children end, and Python takes each for a success, those of jobs, too.
    """
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        set_handler(signal.SIGCHLD, signal.SIG_DFL)
    return {*signal.pthread_sigmask(signal.SIG_UNBLOCK, HEARD)}  # type: ignore[arg-type]


def _heed_forks() -> None:
    global _heeds_forks  # noqa: PLW0603 - nobody can take it back
    if not _heeds_forks:
        _heeds_forks = True
        os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)


def _before_fork() -> None:
    # Signals wait until the child has let go: one that came in between would be heard by us as ours.
    if _ear is not None:
        _masks[threading.get_ident()] = {*signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)}


def _after_fork() -> None:
    mask = _masks.pop(threading.get_ident(), None)
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _after_fork_in_child() -> None:
    global _ear  # noqa: PLW0603 - as above
    ending.on_leaving = lambda: None
    if _ear is not None:
        _ear.let_go()
        _ear = None
        strand()
    _after_fork()


def _stay_deaf() -> None:
    # What is sent again while the interpreter ends must not change the status, nor suspend the process: the end is near and bounded.
    for number in HEARD:
        if deafens(signal.getsignal(number)):
            set_handler(number, heard_elsewhere)
    # Python gives all signals back to the kernel then: an alarm that a job left on would kill us.
    for number in ALARMS:
        handler = signal.getsignal(number)
        if isinstance(handler, Contained) or handler is nobodys_alarm:
            set_handler(number, signal.SIG_IGN)


def _where_threads_are() -> str:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    parts = []
    for ident, frame in sys._current_frames().items():  # noqa: SLF001 - the documented way to see other threads
        stack = "".join(calls_of(outer_frames(frame)).format()).rstrip()
        parts.append(f"thread {names.get(ident, ident)}:\n{stack}")
    return Lines("\n".join(parts))
