"""`run --processes`: starts workers, replaces them, relays signals, and ends with them. No Trio, no App and no Redis in this process.

One loop, awake when a signal came, a child has said something or ended, or half a second has passed. What happens is decided in
`Place.step` and here, from values; only `Life` touches processes. Children hold one end of a socket, whose other end is ours: when we are
killed they read its end, and stop.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from trioworkers.health import Health, health_of
from trioworkers.process.life import Life
from trioworkers.process.notify import Notifier
from trioworkers.process.place import PATIENCE_S, Place

logger = logging.getLogger("trioworkers")

TICK_S = 0.5
LOOK_AT_MEMORY_S = 5.0
MEMORY_PAUSE_S = 60.0
"""A leak must not become a storm of restarts."""
FIRST_FAILURES = 5
"""So many ends before any process was ever ready are one end of all."""
PAGE_ENDS_WITHIN_S = 1.0
WRONG_USAGE = 2
RELAYED = (signal.SIGTSTP, signal.SIGTTIN)
REPLACE = (signal.SIGHUP, signal.SIGUSR2)
STOP = (signal.SIGTERM, signal.SIGINT)


class Supervisor:
    """`start` starts the process of a place (its number, "" or "b"). `max_rss_bytes`: above it a process is replaced; None: never.

    `start_page`: starts the process that serves their dashboard, if one does. It is started anew however it ends, no worker waits for it, and it goes last.
    """

    def __init__(
        self,
        count: int,
        start: Callable[[int, str], Life],
        notifier: Notifier,
        max_rss_bytes: int | None = None,
        start_page: Callable[[], Life] | None = None,
    ) -> None:
        self._begin = start
        self._places = [Place(number, self._start) for number in range(1, count + 1)]
        self._page = None if start_page is None else Place(0, lambda *_: self._attend(start_page()))
        self._notifier = notifier
        self._max_rss = max_rss_bytes
        self._selector = selectors.DefaultSelector()
        self._to_replace: deque[Place] = deque()
        self._reloading = False
        self._not_replaced = 0
        """Processes that the last reload left as they were."""
        self._ever_ready = False
        self._announced = False
        self._failures = 0
        self._quiet = False
        self._stopping = False
        self._status = 0
        self._memory_at = self._replaced_for_memory_at = -MEMORY_PAUSE_S

    def run(self) -> int:
        """Until told to stop, or until nothing is left to watch over. Returns the exit status."""
        with self._hearing() as signals:
            try:
                while not self._is_over():
                    for key, _ in self._selector.select(TICK_S):
                        if isinstance(key.data, Life):
                            key.data.listen()
                            if key.data.link.fileno() < 0 or _is_at_its_end(key.data.link):
                                self._ignore(key.fileobj)
                    self._obey(signals)
                    self._step(time.monotonic())
            finally:
                self._notifier.stopping()
                for life in self._lives():  # only after an error of ours: nobody is left otherwise
                    life.kill()
                self._end_page()
        return self._status

    def health(self) -> Health:
        """Of all together. May be called from any thread."""
        now, texts, live, drained, ready = time.monotonic(), [], True, True, True
        for place in self._places:
            life = place.current
            if life is None or life.told_at is None:
                ready, drained = False, drained and place.is_closed
                texts.append(f"{place.number}: {'stopped' if place.is_closed else 'not started'}")
                continue
            its = health_of(life.pulse, now - life.told_at)
            live, ready, drained = live and its.live, ready and its.ready, drained and its.drained
            texts.append(f"{life.name}: {its.text}")
        return Health(live=live, ready=ready and not self._stopping, drained=drained, text="; ".join(texts))

    # ── what it is told ────────────────────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def _hearing(self) -> Iterator[socket.socket]:
        reader, writer = socket.socketpair()
        reader.setblocking(False)  # noqa: FBT003 - the socket's own interface
        writer.setblocking(False)  # noqa: FBT003 - as above
        heard = (*STOP, *RELAYED, *REPLACE, signal.SIGCHLD)
        before = {number: signal.signal(number, lambda *_: None) for number in heard}
        fd = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        self._selector.register(reader, selectors.EVENT_READ)
        # The command has blocked some until now, and whoever has started us may have, too, for us and our children.
        mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, heard)
        try:
            yield reader
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            signal.set_wakeup_fd(fd)
            for number, handler in before.items():
                signal.signal(number, handler or signal.SIG_DFL)
            self._selector.close()
            reader.close()
            writer.close()

    def _obey(self, signals: socket.socket) -> None:
        with suppress(BlockingIOError):
            for number in signals.recv(100):
                if number in STOP:
                    self._stop(signal.Signals(number))
                elif number in REPLACE:
                    self._replace_all()
                elif number in RELAYED:
                    self._quiet = self._quiet or number == signal.SIGTSTP
                    self._relay(signal.Signals(number))

    def _stop(self, number: signal.Signals) -> None:
        if self._stopping:
            self._relay(number)
            return
        logger.info("stopping: %d processes are told", sum(1 for _ in self._lives()))
        self._notifier.stopping()
        self._stopping = True
        self._to_replace.clear()
        now = time.monotonic()
        for life in self._lives():
            life.stop(now, PATIENCE_S, number)

    def _relay(self, number: signal.Signals) -> None:
        for life in self._lives():
            life.send(number)

    def _replace_all(self) -> None:
        if self._stopping:
            return
        logger.info("replacing all processes, one after the other")
        self._notifier.reloading()
        self._reloading, self._not_replaced = True, 0
        self._to_replace.extend(place for place in self._places if place not in self._to_replace)
        if self._page is not None and self._page.current is not None:  # who comes meanwhile waits for the next one
            self._page.current.stop(time.monotonic(), PAGE_ENDS_WITHIN_S)

    # ── what it does ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _start(self, number: int, suffix: str) -> Life:
        return self._attend(self._begin(number, suffix))

    def _attend(self, life: Life) -> Life:
        self._selector.register(life.link, selectors.EVENT_READ, life)
        life.on_end = lambda: self._ignore(life.link)
        return life

    def _ignore(self, link: object) -> None:
        with suppress(KeyError, ValueError):
            self._selector.unregister(link)  # type: ignore[arg-type]

    def _lives(self) -> Iterator[Life]:
        return (life for place in self._places for life in place.lives())

    def _end_page(self) -> None:
        """It keeps nothing that would be lost: a signal that it doesn't hear ends it."""
        until = time.monotonic() + PAGE_ENDS_WITHIN_S
        for life in [] if self._page is None else list(self._page.lives()):
            life.send(signal.SIGTERM)
            while not life.see(now := time.monotonic()):
                if now > until:
                    life.kill()
                time.sleep(0.01)

    def _is_over(self) -> bool:
        nobody = not any(True for _ in self._lives())
        return nobody and (self._stopping or all(place.is_closed for place in self._places))

    def _step(self, now: float) -> None:
        self._bury_strangers()
        # The first one alone until its App is loaded: what is wrong with that is said once.
        is_loaded = self._ever_ready or any(life.is_loaded for life in self._lives())
        for place in self._places:
            place.step(now, may_start=not self._stopping and (is_loaded or place is self._places[0]))
            place.tell_if_late(now)
        if self._page is not None:
            self._page.step(now, may_start=is_loaded and not self._stopping)
        if self._quiet:
            for life in self._lives():
                if life.hears_signals and not life.pulse.quiet and life.told_at is not None:
                    life.send(signal.SIGTSTP)
        self._count_failures()
        if not self._stopping:
            self._replace_next(now)
            self._look_at_memory(now)
            self._announce()
            if self._reloading:
                self._notifier.still_reloading(now)
        if all(life.told_at is None or health_of(life.pulse, now - life.told_at).live for life in self._lives()):
            self._notifier.feed(now)

    def _bury_strangers(self) -> None:
        """In a container we are the first process: what jobs' processes leave behind becomes ours, and stays a zombie until we ask for it."""
        if os.getpid() != 1 or not hasattr(os, "waitid"):
            return
        ours = {life.pid for life in (*self._lives(), *(self._page.lives() if self._page is not None else ()))}
        with suppress(ChildProcessError):
            while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and ended.si_pid not in ours:
                os.waitpid(ended.si_pid, 0)

    def _count_failures(self) -> None:
        self._ever_ready = self._ever_ready or any(life.is_ready for life in self._lives())
        for place in self._places:
            status, place.failed_status = place.failed_status, None
            if status is None or self._ever_ready or self._stopping:
                continue
            self._failures += 1
            if status == WRONG_USAGE or self._failures >= FIRST_FAILURES:
                self._status = status if status > 0 else 1
                logger.error("no process has become ready, %d have ended: giving up", self._failures)
                self._stop(signal.SIGTERM)

    def _replace_next(self, now: float) -> None:
        if any(place.is_changing for place in self._places):
            return
        if any(place.gave_up for place in self._places):
            if self._reloading:
                self._not_replaced = sum(place.gave_up for place in self._places) + len(self._to_replace)
            for place in self._places:
                place.gave_up = False
            logger.error("%d more are not replaced", len(self._to_replace))
            self._to_replace.clear()
        if self._to_replace:
            self._to_replace.popleft().replace(now)
        elif self._reloading:
            self._reloading = False
            self._announced = False

    def _look_at_memory(self, now: float) -> None:
        if self._max_rss is None or now < self._memory_at + LOOK_AT_MEMORY_S:
            return
        self._memory_at = now
        if self._to_replace or now < self._replaced_for_memory_at + MEMORY_PAUSE_S:
            return
        # The largest of them: the first ones alone would have their turn if all are too large.
        sizes = [(life.rss_bytes(), place, life) for place in self._places if (life := place.replaceable) is not None]
        rss, place, life = max(sizes, key=lambda each: each[0], default=(0, None, None))
        if place is None or life is None or rss <= self._max_rss:
            return
        why = ""
        if (age_s := now - life.began_at) < MEMORY_PAUSE_S:
            why = f", {age_s:.0f} s after its start: --max-rss is less than the App needs"
        logger.warning("process %s has %d MB%s: replaced", life.name, rss >> 20, why)
        self._replaced_for_memory_at = now
        self._to_replace.append(place)

    def _announce(self) -> None:
        if self._announced or not all(
            place.is_closed or (place.current is not None and place.current.is_ready) for place in self._places
        ):
            return
        self._announced = True
        logger.info("all %d processes are ready", len(self._places))
        # READY=1 after a reload that failed, too: it says only that the reload is over, and systemd would wait for it.
        left = f", {self._not_replaced} of them not replaced: the reload was given up" if self._not_replaced else ""
        self._notifier.ready(f"{len(self._places)} processes{left}")


def _is_at_its_end(link: socket.socket) -> bool:
    try:
        return not link.recv(1, socket.MSG_PEEK)
    except OSError:
        return False
