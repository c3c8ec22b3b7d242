"""One of a supervisor's places: a worker lives there, or its successor is on the way, or the next one is waited for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from trioworkers.process.life import Life

logger = logging.getLogger("trioworkers")

READY_WITHIN_S = 60.0
"""A replacement that is not ready by then is given up, and the old process stays."""
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
WELL_AFTER_S = 300.0
"""Who has lived so long has not crashed at its start."""
PATIENCE_S = 3.0
"""After its deadline a worker is gone (P3); but it runs the user's code."""


class Place:
    """Number `number`, from 1 on. `start` starts a process there; its argument: "", or "b" for the second of two that live side by side."""

    def __init__(self, number: int, start: Callable[[int, str], Life]) -> None:
        self.number = number
        self._start = start
        self.current: Life | None = None
        self.successor: Life | None = None
        self.leaving: Life | None = None
        self.start_at = 0.0
        """When the next one is started, if there is none."""
        self.is_closed = False
        """Somebody has told its worker to stop: none follows."""
        self.failed_status: int | None = None
        """Of one that ended before it was ready, since this was last asked for."""
        self.gave_up = False
        """Whether a successor came to nothing, since this was last asked for."""
        self._crashes = 0
        self._suffix = ""
        self._told_of: Life | None = None
        """The process of which the log has said that it takes long to be ready."""

    def lives(self) -> Iterator[Life]:
        """All processes of this place."""
        return (each for each in (self.current, self.successor, self.leaving) if each is not None)

    @property
    def is_changing(self) -> bool:
        """Whether one process is being replaced by another."""
        return self.successor is not None or self.leaving is not None

    @property
    def replaceable(self) -> Life | None:
        """Its process, if none is on its way after it."""
        return None if self.is_changing else self.current

    def replace(self, now: float) -> None:
        """Start a successor; the current process is stopped when that one is ready."""
        if self.current is None:
            self.start_at = min(self.start_at, now)
            return
        self._suffix = "" if self._suffix else "b"
        try:
            self.successor = self._start(self.number, self._suffix)
        except OSError as error:  # that passes; the old one does until then
            logger.error("no process can be started: %s; %s stays", error.strerror, self._old)
            self._forget_successor()

    def _begin(self, now: float) -> None:
        try:
            self.current = self._start(self.number, self._suffix)
        except OSError as error:  # that passes, and the others work meanwhile
            self.failed_status = 1
            logger.error("no process can be started: %s; tried again in %.0f s", error.strerror, self._pause(now))

    def _pause(self, now: float) -> float:
        self._crashes += 1
        pause_s = min(FIRST_PAUSE_S * 2.0 ** min(self._crashes - 1, 10), LONGEST_PAUSE_S)
        self.start_at = now + pause_s
        return pause_s

    def step(self, now: float, *, may_start: bool) -> None:
        """See to all that has happened. `may_start`: whether a process that is missing is started."""
        if self.leaving is not None and self.leaving.see(now):
            self.leaving = None
        if self.successor is not None:
            self._attend_successor(self.successor, now)
        if self.current is not None and self.current.see(now):
            self._mourn(self.current, now)
        if (
            self.current is None
            and self.successor is None
            and not self.is_closed
            and may_start
            and now >= self.start_at
        ):
            self._begin(now)

    def tell_if_late(self, now: float) -> None:
        """Say once that a worker is not ready. It is not killed: there is no other, and while Redis is away none would be better."""
        life = self.current
        if life is None or life.is_ready or life.is_stopped or life is self._told_of:
            return
        if now <= life.began_at + READY_WITHIN_S:
            return
        self._told_of = life
        why = (
            "it has no place in Redis yet, or its lifespan takes so long"
            if life.is_loaded
            else "it is still loading the App"
        )
        logger.warning("process %s is not ready after %.0f s: %s; it goes on", life.name, READY_WITHIN_S, why)

    def _attend_successor(self, successor: Life, now: float) -> None:
        if successor.see(now):
            if self.is_closed:
                self.successor = None
                return
            if not successor.is_stopped:
                logger.error(
                    "process %s ended with %s before it was ready: %s stays", successor.name, said(successor), self._old
                )
            self._forget_successor()
        elif successor.is_stopped:
            return
        elif successor.is_ready:
            old, self.current, self.successor, self.leaving = self.current, successor, None, self.current
            self._crashes = 0
            if old is not None:
                logger.info("process %s is ready: %s is stopped", successor.name, old.name)
                old.stop(now, PATIENCE_S)
        elif now > successor.began_at + READY_WITHIN_S:
            logger.error(
                "process %s is not ready after %.0f s: killed, %s stays", successor.name, READY_WITHIN_S, self._old
            )
            successor.kill()

    @property
    def _old(self) -> str:
        return "nobody" if self.current is None else self.current.name

    def _forget_successor(self) -> None:
        self.gave_up = True
        self.successor = None
        self._suffix = "" if self._suffix else "b"

    def _mourn(self, life: Life, now: float) -> None:
        self.current = None
        if life.status == 0 and life.was_told_to_stop:
            logger.info("process %s was told to stop, and is not replaced", life.name)
            self.is_closed = True
            if self.successor is not None:
                self.successor.stop(now, PATIENCE_S)
            return
        if life.is_stopped:
            return
        if not life.is_ready:
            self.failed_status = life.status
        if now - life.began_at > WELL_AFTER_S:
            self._crashes = 0
        if self.successor is not None:  # it was on its way anyhow
            self._crashes += 1
            logger.error("process %s ended with %s; its successor is on the way", life.name, said(life))
            self.current, self.successor = self.successor, None
            return
        pause_s = self._pause(now)
        logger.error("process %s ended with %s; another one starts in %.0f s", life.name, said(life), pause_s)


def said(life: Life) -> str:
    """How it ended, in words."""
    status = life.status or 0
    return f"signal {-status}" if status < 0 else f"status {status}"
