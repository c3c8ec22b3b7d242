"""Logs from a thread of its own: for those who keep a promise, and so must not wait for whoever reads the log.

A handler of the log may block: its pipe is full, its disk is away. Only the line then waits, and those behind it.
"""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from queue import Full, Queue

logger = logging.getLogger("trioworkers")

ROOM = 100
"""So many lines may wait; what comes then is lost, as the log is."""


class Aside:
    """Says things without waiting, in the order in which it was told them."""

    def __init__(self) -> None:
        self._waiting: Queue[threading.Event | tuple[int, str, tuple[object, ...]]] = Queue(ROOM)
        self._thread: threading.Thread | None = None

    def log(self, level: int, text: str, *args: object) -> None:
        """Have it logged soon."""
        self._put((level, text, args))

    def settle(self, timeout_s: float) -> None:
        """Wait until all is logged that we were told, but no longer than `timeout_s`."""
        said = threading.Event()
        if self._put(said):
            said.wait(timeout_s)

    def _put(self, what: threading.Event | tuple[int, str, tuple[object, ...]]) -> bool:
        if self._thread is None or not self._thread.is_alive():  # not yet, or we are a forked child
            try:
                self._thread = threading.Thread(target=self._say, name="trioworkers-aside", daemon=True)
                self._thread.start()
            except RuntimeError:  # the interpreter ends, and starts no thread any more; or a job took what threads need
                return False
        with suppress(Full):  # nobody has read the log for a long time
            self._waiting.put_nowait(what)
            return True
        return False

    def _say(self) -> None:
        while True:
            what = self._waiting.get()
            if isinstance(what, threading.Event):
                what.set()
            else:
                # A handler of the user's may raise, whatever it is; what we are told next shall be said all the same.
                with suppress(BaseException):
                    logger.log(what[0], what[1], *what[2])


aside = Aside()
"""The only one: what is said in a process has one order."""
