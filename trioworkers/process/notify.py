"""Tells systemd how we are (`Type=notify`): one datagram each, to the socket that NOTIFY_SOCKET names. Does nothing where nobody asks."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping
from contextlib import suppress

EXTENSION_S = 60.0
"""How much longer than it would a service manager waits for the end of a reload, each time that it hears of it."""


class Notifier:
    """`watchdog_s`: how often the service manager wants to hear that we are alive; None if it doesn't."""

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        """Takes the variables out of the environment: children are none of the service manager's business."""
        self._address = environment.pop("NOTIFY_SOCKET", "")
        wanted, whose = environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", "")
        is_ours = wanted.isdigit() and int(wanted) > 0 and whose in ("", str(os.getpid()))
        self.watchdog_s = int(wanted) / 2_000_000 if is_ours else None
        self._fed_at = self._extended_at = 0.0
        self._is_stopping = False

    def ready(self, status: str) -> None:
        """All is up, or a reload is over, whatever came of it: that says `status`."""
        self._send(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """Processes are being replaced."""
        # systemd wants the moment of a reload, to tell its end from an earlier one's.
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def still_reloading(self, now: float) -> None:
        """The same, if it is time to say so: they go one after the other, each when its jobs have ended, and systemd gives a reload up after TimeoutStartSec."""
        if now >= self._extended_at + EXTENSION_S / 4:
            self._extended_at = now
            self._send(f"EXTEND_TIMEOUT_USEC={EXTENSION_S * 1_000_000:.0f}")

    def stopping(self) -> None:
        """We end. It is said once."""
        if not self._is_stopping:
            self._is_stopping = True
            self._send("STOPPING=1")

    def feed(self, now: float) -> None:
        """Feed the watchdog, if it is time."""
        if self.watchdog_s is not None and now >= self._fed_at + self.watchdog_s:
            self._fed_at = now
            self._send("WATCHDOG=1")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.settimeout(1.0)  # the manager may be busy; that it hears of it is not worth our standing still
            sender.sendto(text.encode(), address)
