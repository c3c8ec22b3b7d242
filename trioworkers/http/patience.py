"""Ends waits for the network that take too long: all waits of a client with one timer.

A cancel scope around each would be the dearest part of waiting, and nearly every one of them ends without having been of use.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Awaitable, Callable

import trio


class _Wait:
    __slots__ = ("ends_at", "on")

    def __init__(self, on: socket.socket, ends_at: float) -> None:
        self.on = on
        self.ends_at = ends_at


class Patience:
    """While nobody runs `keep`, each wait has a scope of its own."""

    def __init__(self) -> None:
        # By their length: of those that are equally long, the oldest ends first.
        self._waits: dict[float, dict[_Wait, None]] = {}
        self._is_kept = False
        self._looks_at = math.inf
        self._sooner = trio.Event()

    async def within(
        self, seconds: float | None, wait: Callable[[socket.socket], Awaitable[None]], on: socket.socket
    ) -> None:
        """Await `wait(on)`, where that is one of `trio.lowlevel`'s. Raises trio.TooSlowError after `seconds`; None: never."""
        length_s = math.inf if seconds is None else seconds
        ends_at = trio.current_time() + length_s
        if self._is_kept and length_s >= 0:  # of nan Trio says what it is
            one = _Wait(on, ends_at)
            alike = self._waits.setdefault(length_s, {})
            alike[one] = None
            if ends_at < self._looks_at:
                self._looks_at = ends_at
                self._sooner.set()
            try:
                await wait(on)
            except trio.ClosedResourceError:
                if on.fileno() < 0:  # it was closed; else its time has come, or that of another who waits on it
                    raise
            else:
                return
            finally:
                del alike[one]
                if not alike:
                    del self._waits[length_s]
        with trio.fail_at(ends_at):
            await _whoever_is_woken(wait, on)

    async def keep(self) -> None:
        """End waits when their time has come, for ever. Cancelled, it leaves each to itself."""
        self._is_kept = True
        try:
            while True:
                oldest = (next(iter(alike)) for alike in self._waits.values())
                self._looks_at = min((one.ends_at for one in oldest), default=math.inf)
                self._sooner = trio.Event()
                with trio.move_on_at(self._looks_at):
                    await self._sooner.wait()
                self._wake(trio.current_time())
        finally:
            self._is_kept = False
            self._wake(math.inf)

    def _wake(self, until: float) -> None:
        for alike in self._waits.values():
            for one in alike:
                if one.ends_at > until:
                    break
                trio.lowlevel.notify_closing(one.on)


async def _whoever_is_woken(wait: Callable[[socket.socket], Awaitable[None]], on: socket.socket) -> None:
    """Await `wait(on)`, on which others may wait whose time comes."""
    while True:
        try:
            await wait(on)
        except trio.ClosedResourceError:
            if on.fileno() < 0:
                raise
        else:
            return
