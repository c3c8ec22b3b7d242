"""One child process of a supervisor: started, heard, told, and seen to its end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from trioworkers.health import Pulse, decode

MAX_LINE = 1000
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Life:
    """It has a process group of its own: what a terminal sends to ours is relayed once, and what it has started can be ended with it.

    Making one raises OSError if there is no process, descriptor or memory left for it.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        order: bytes,
        environment: Mapping[str, str],
        more_fds: Sequence[int] = (),
    ) -> None:
        self.name = name
        self.began_at = time.monotonic()
        self.link, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = subprocess.Popen(  # noqa: S603 - ourselves
                    [*command, str(theirs.fileno())],
                    pass_fds=[theirs.fileno(), *more_fds],
                    stdin=subprocess.DEVNULL,
                    process_group=0,
                    env=environment,
                )
            except BaseException:
                self.link.close()
                raise
        self.link.setblocking(False)  # noqa: FBT003 - the socket's own interface
        with suppress(OSError):  # it ended at once: its status says more
            self.link.sendall(order + b"\n")
        self._unread = b""
        self.hears_signals = False
        self.is_loaded = False
        self.is_ready = False
        """Whether it has ever been."""
        self.was_told_to_stop = False
        """By somebody else than us: Sidekiq's page, `trioworkers stop`."""
        self.pulse = Pulse()
        self.told_at: float | None = None
        self.on_end: Callable[[], None] = lambda: None
        """Called before its socket is closed."""
        self.ends_by: float | None = None
        """When it is killed if it has not ended by itself; None: it may go on."""

    @property
    def pid(self) -> int:
        """Its process's."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Its exit status, negative for a signal; None while it lives."""
        return self._process.returncode

    def listen(self) -> None:
        """Take in what it has said since."""
        with suppress(BlockingIOError, ConnectionError):
            while part := self.link.recv(65536):
                *lines, self._unread = (self._unread + part).split(b"\n")
                self._unread = self._unread[-MAX_LINE:]
                for line in lines:
                    self._hear(line.decode(errors="replace"))

    def _hear(self, line: str) -> None:
        self.hears_signals = True  # nothing is said before that
        self.is_loaded = self.is_loaded or line == "loaded"
        if (pulse := decode(line)) is not None:
            self.pulse, self.told_at = pulse, time.monotonic()
            self.is_ready = self.is_ready or pulse.is_ready or (pulse.registered and pulse.quiet)
            self.was_told_to_stop = pulse.stopping and self.ends_by is None

    @property
    def is_stopped(self) -> bool:
        """Whether we have told it to stop, or killed it."""
        return self.ends_by is not None

    def send(self, number: signal.Signals) -> None:
        """Send it a signal; one that a process stops by until it has a handler, only when it has."""
        # Not by Popen, which would see to its end by itself; as long as we have not, the pid is its own.
        if self.status is None and (self.hears_signals or number in (signal.SIGTERM, signal.SIGINT)):
            os.kill(self.pid, number)

    def stop(self, now: float, patience_s: float, number: signal.Signals = signal.SIGTERM) -> None:
        """Ask it to stop, once: a second signal would cut short what the first one lets finish. It is killed if it has not within its own deadline and `patience_s`."""
        if self.is_stopped:
            return
        self.ends_by = now + self.pulse.timeout_s + patience_s
        self.send(number)

    def kill(self) -> None:
        """End it, and what it has started."""
        self.ends_by = 0.0
        with suppress(ProcessLookupError, PermissionError):
            if self._process.returncode is None:
                os.killpg(self._process.pid, signal.SIGKILL)

    def see(self, now: float) -> bool:
        """Whether it has ended. Kills it when its time is over; what a crashed one has started goes with it."""
        if self.status is not None:
            return True
        if self.ends_by is not None and now >= self.ends_by:
            self.kill()
        if not self._has_ended():
            return False
        self.listen()  # its last words
        self._process.wait()
        self.on_end()
        self.link.close()
        return True

    def _has_ended(self) -> bool:
        if not hasattr(os, "waitid"):  # macOS, before Python 3.13
            return self._process.poll() is not None
        ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is not None and ended.si_code != os.CLD_EXITED:
            # Before its pid is free again: then its group could be somebody else's.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        return ended is not None

    def rss_bytes(self) -> int:
        """Its resident memory; 0 if this system doesn't tell."""
        try:
            return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * _PAGE
        except (OSError, ValueError, IndexError):
            return 0
