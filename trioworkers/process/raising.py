"""Signal handlers that raise: in the code of the job that set them that is its own affair; anywhere else it would tear the event loop apart.

Python runs a handler between any two instructions of the main thread: in a job, in another one, in Trio's or our own code, or while all wait.
"""

from __future__ import annotations

import logging
import signal
from types import FrameType
from typing import Any
from weakref import ref

import trio

from trioworkers.aside import aside
from trioworkers.failures import summary

NOT_THEIRS = frozenset({"trio", "outcome", "trioworkers", "coredis", "anyio"})
"""What runs between the code of jobs. Whatever was torn in the middle there would be broken for all."""


class Contained:
    """Stands for a handler that a program set. What that raises comes out in its job's code, or is told once."""

    def __init__(self, handler: Any) -> None:
        self.handler = handler
        job = running_job()
        self._job = None if job is None else ref(job)
        self._told = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Python calls it."""
        try:
            self.handler(number, frame)
        except BaseException as error:
            if self._may_raise_in(frame):
                raise
            if not self._told:
                self._told = True
                text = "a handler of the signal %r raised %s: %s, while other code ran than that of the job that set it: ignored, now and later"
                aside.log(logging.WARNING, text, signal.strsignal(number), *summary(error))

    def _may_raise_in(self, frame: FrameType | None) -> bool:
        if frame is None or str(dict.get(frame.f_globals, "__name__")).partition(".")[0] in NOT_THEIRS:
            return False
        job = running_job()
        return job is not None and (self._job is None or self._job() is job)


def contained(handler: Any) -> Any:
    """The same handler, contained. What is no function (SIG_IGN, SIG_DFL, None) stays as it is."""
    return Contained(handler) if callable(handler) and not isinstance(handler, Contained) else handler


def as_it_was_set(handler: Any) -> Any:
    """The handler that the program set."""
    return handler.handler if isinstance(handler, Contained) else handler


def running_job() -> Any:
    """The delivery whose handler's code, or that of a task which it started, runs in this moment; None if none does."""
    from trioworkers.engine.lanes import Lanes  # noqa: PLC0415 - it is there where jobs are, and nobody else needs it

    try:
        task: trio.lowlevel.Task | None = trio.lowlevel.current_task()
    except RuntimeError:  # between two tasks, or outside Trio
        return None
    while task is not None:
        if task.coro.cr_code is Lanes._lane.__code__:  # noqa: SLF001 - what is looked for is the frame of just this
            frame = task.coro.cr_frame
            return None if frame is None else frame.f_locals.get("delivery")
        task = None if task.parent_nursery is None else task.parent_nursery.parent_task
    return None
