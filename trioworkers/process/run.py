"""trio.run plus Unix signals: TERM and INT stop, TSTP quiets, TTIN dumps the running jobs. Nothing else touches signals.

Signals are heard by a thread of their own, over the wake-up file descriptor that Python's C code writes to at once. So they
are heard even while a job blocks the event loop for good; and the same thread sees to it that the process ends in time.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING

import trio

from trioworkers.broker.emergency import release_all
from trioworkers.engine.serve import serve, ungrouped
from trioworkers.process.collector import patient_collector

if TYPE_CHECKING:
    from trioworkers.engine.worker import Worker
    from trioworkers.jobs.declarations import Declarations

logger = logging.getLogger("trioworkers")

STOP = (signal.SIGTERM, signal.SIGINT)
HEARD = (*STOP, signal.SIGTSTP, signal.SIGTTIN)

HARD_EXIT_AFTER_S = 1.2
"""After the deadline: by then a worker whose jobs behave is gone. What is left is put back by us, and the process ends."""

LAST_CALL_S = 0.5


def run(app: Declarations) -> None:
    """See `App.run`."""
    if threading.current_thread() is threading.main_thread():
        with ungrouped(), _installed_handlers(), patient_collector():
            trio.run(_run_with_signals, app)
    else:
        trio.run(serve, app)


async def _run_with_signals(app: Declarations) -> None:
    ear = _Ear()
    with ear.listening(), trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            ear.on_stop = lambda _: scope.cancel()  # until there is a worker, nothing needs a deadline
            worker: Worker = await nursery.start(serve, app)
            ear.attend(worker)
            nursery.start_soon(_watch_stop, worker, ear)


async def _watch_stop(worker: Worker, ear: _Ear) -> None:
    """However the worker came to stop (a signal, Sidekiq's web page), its deadline is kept."""
    await worker.told_to_stop.wait()
    ear.expect_end(worker.deadline - trio.current_time())


@contextmanager
def _installed_handlers() -> Iterator[None]:
    """Python must have a handler, or its C code hands nothing on; it has nothing to do itself."""
    before = {number: signal.signal(number, _heard_elsewhere) for number in HEARD}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _heard_elsewhere(number: int, frame: FrameType | None) -> None:
    """See `_Ear`."""


class _Ear:
    """The thread that hears signals, and the clock that runs when the worker has been told to stop."""

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)  # noqa: FBT003 - the socket's own interface
        self._stops = 0
        self._worker: Worker | None = None
        self._quiet_asked = False
        self._timer: threading.Timer | None = None
        self._ends_at = float("inf")
        self.on_stop: Callable[[int], None] = self._stop

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Hear signals within the block."""
        # Trio has its own descriptor there, only to wake up for KeyboardInterrupt; we wake it by token.
        before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        thread = threading.Thread(target=self._listen, name="trioworkers-signals", daemon=True)
        thread.start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
            if self._timer is not None:
                self._timer.cancel()
            self._writer.close()
            thread.join()
            self._reader.close()

    def attend(self, worker: Worker) -> None:
        """From now on signals are for this worker."""
        self._worker = worker
        self.on_stop = self._stop
        if self._quiet_asked:
            worker.quiet()

    def expect_end(self, in_s: float) -> None:
        """See to it that the process ends soon after `in_s` seconds from now. Called from any thread."""
        ends_at = time.monotonic() + max(in_s, 0.0) + HARD_EXIT_AFTER_S
        if ends_at < self._ends_at:
            self._ends_at = ends_at
            if self._timer is not None:
                self._timer.cancel()
            self._timer = threading.Timer(ends_at - time.monotonic(), self._hard_exit)
            self._timer.daemon = True
            self._timer.start()

    def _listen(self) -> None:
        while numbers := self._reader.recv(16):
            for number in numbers:
                if number in STOP:
                    self._hear_stop()
                elif number == signal.SIGTSTP:
                    self._tell(self._quiet)
                elif self._worker is not None and number == signal.SIGTTIN:
                    self._dump(self._worker)

    def _hear_stop(self) -> None:
        self._stops += 1
        if self._stops > 2:
            logger.error("third signal: out; what was running stays in progress, safe in Redis")
            self._exit_now()
        if self._worker is not None:
            self.expect_end(self._worker.shutdown_timeout_s if self._stops == 1 else 0.0)
        self._tell(self.on_stop, self._stops)

    def _quiet(self) -> None:
        self._quiet_asked = (
            True  # of a worker that has not started yet, too: who has sent a signal doesn't send it again
        )
        if self._worker is not None:
            self._worker.quiet()

    def _stop(self, stops: int) -> None:
        if self._worker is not None:
            self._worker.stop(None if stops == 1 else 0.0)

    def _tell(self, function: object, *args: object) -> None:
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(function, *args)  # type: ignore[arg-type]

    def _dump(self, worker: Worker) -> None:
        answered = threading.Event()

        def dump() -> None:
            answered.set()
            logger.warning("running jobs:\n%s", "\n".join(worker.describe_jobs()) or "none")

        def complain() -> None:
            if not answered.wait(1.0):
                logger.error("the event loop is blocked; this is where:")
                faulthandler.dump_traceback(sys.stderr)

        self._tell(dump)
        threading.Thread(target=complain, daemon=True).start()

    def _hard_exit(self) -> None:
        worker = self._worker
        if worker is not None and not worker.gone.is_set():
            logger.error("the worker did not end by its deadline: its jobs are put back, the process ends")
            limit = threading.Timer(LAST_CALL_S, self._exit_now)
            limit.daemon = True
            limit.start()
            with suppress(Exception):
                trio.run(release_all, worker.lists)
        self._exit_now()

    def _exit_now(self) -> None:
        """End the process as it stands, with what it has started. Status 0, as being stopped is not failing; 1 if it stopped by itself."""
        reason = None if self._worker is None else self._worker.stopped_for
        if reason is not None:
            logger.error("ended with status 1: %s", reason)
        multiprocessing = sys.modules.get(
            "multiprocessing"
        )  # who has children by it has imported it; most workers haven't
        for child in multiprocessing.active_children() if multiprocessing is not None else ():
            child.kill()
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        os._exit(0 if reason is None else 1)
