"""The parent as one of several processes sees it: what it says first, what it is told, and that it is there."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from contextlib import suppress

from trioworkers.health import Pulse

MAX_ORDER = 1 << 20


class Parent:
    """The socket to the parent. When that is gone, so are we: drained, as by TERM."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link

    def order(self) -> bytes:
        """What to do. Ends this process if the parent is gone already."""
        line = b""
        while not line.endswith(b"\n"):
            part = self._link.recv(65536)
            if not part or len(line) > MAX_ORDER:
                sys.exit(0)
            line += part
        return line

    def end_with_parent(self) -> None:
        """Stop when the parent ends, however it does.

        Not by the kernel's signal for that, too: a second TERM would cut short what the first one lets finish.
        """
        threading.Thread(target=self._wait, name="trioworkers-parent", daemon=True).start()

    def _wait(self) -> None:
        with suppress(OSError):
            self._link.recv(1)
        os.kill(os.getpid(), signal.SIGTERM)

    def say(self, line: str) -> None:
        """Tell the parent. Never waits: one that is stopped or busy misses something, and hears the next."""
        with suppress(OSError):
            self._link.send(f"{line}\n".encode(), socket.MSG_DONTWAIT)

    def tell(self, pulse: Pulse) -> None:
        """Tell the parent how the worker is."""
        self.say(pulse.encode())
