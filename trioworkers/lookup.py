"""Name lookups that nobody's threads hold up: not the jobs', which can fill Trio's forty, and not those of another host.

A lookup can take as long as it likes (a name server that is gone: half a minute), and can't be ended. So each host has at most one under
way, in a thread of its own, and whoever wants the same host waits for the same one, on whatever event loop. What a name was good for
last is remembered: a worker comes back to its Redis while the name server is away.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from time import monotonic

import trio

MAX_REMEMBERED = 1000
"""Names come from jobs, too."""

QUICK_AT_ONCE = 50
QUICK_S = 2.0
MOST_AT_ONCE = 500
"""Names that jobs bring wait while so many lookups are under way. Those that take longer than some seconds wait for a name server that is
away, and keep others from nothing, up to the second number: each is a thread."""

LOOK_AGAIN_S = 0.5


class _Lookup:
    """One call of the system's resolver, and who waits for it."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._lock = threading.Lock()
        self._waiting: list[Callable[[], None]] = []
        self._done = False
        self.began_at = monotonic()
        self.addresses: list[str] = []
        self.error: OSError | None = None

    def run(self) -> None:
        """Ask the system; in a thread of its own."""
        try:
            self.addresses = _resolve(self._host, self._port)
        except OSError as error:
            self.error = error
        except UnicodeError as error:  # a label that is empty or too long
            self.error = socket.gaierror(socket.EAI_NONAME, str(error))
        finally:
            with self._lock:
                self._done = True
            _running.pop((self._host, self._port), None)
            for wake in self._waiting.copy():
                wake()

    async def done(self) -> None:
        """Wait until it is. Cancelled, it goes on for the others."""
        token, event = trio.lowlevel.current_trio_token(), trio.Event()

        def wake() -> None:
            with suppress(trio.RunFinishedError):  # who waited is gone with its loop
                token.run_sync_soon(event.set)

        with self._lock:
            if not self._done:
                self._waiting.append(wake)
            else:
                event.set()
        try:
            await event.wait()
        finally:
            with suppress(ValueError), self._lock:  # it may be done by now
                self._waiting.remove(wake)


_running: dict[tuple[str, int], _Lookup] = {}
_remembered: dict[str, list[str]] = {}
os.register_at_fork(after_in_child=_running.clear)  # their threads are the parent's


async def addresses_of(host: str, port: int, patience_s: float, *, from_jobs: bool = False) -> list[str]:
    """The addresses of a host, in the order in which to try them. Raises OSError: socket.gaierror, or TimeoutError after `patience_s`.

    `from_jobs`: jobs can bring any number of names; such a lookup waits while many are under way. What keeps a worker alive never does.
    If the name server doesn't answer (in half of that time), what was remembered of this host. Cancellation: leaves nothing behind that anybody waits for.
    """
    if _is_address(host):
        return [host]
    known = _remembered.get(host, [])
    lookup: _Lookup | None = None
    with trio.move_on_after(patience_s / 2 if known else patience_s) as scope:
        if from_jobs:
            await _room_for(host, port)
        lookup = _started(host, port)
        await lookup.done()
    if scope.cancelled_caught or lookup is None:
        if known:
            return known
        raise TimeoutError(f"no name server has answered for {host!r} within {patience_s:g} s")
    if lookup.error is None:
        return lookup.addresses
    # A name that doesn't exist (any more) is an answer; all else says that nobody could be asked.
    if known and getattr(lookup.error, "errno", None) != socket.EAI_NONAME:
        return known
    raise lookup.error


def remember(host: str, address: str) -> None:
    """An address of the host was good."""
    if not _is_address(host):
        if len(_remembered) >= MAX_REMEMBERED:
            _remembered.clear()
        _remembered[host] = [address]


async def _room_for(host: str, port: int) -> None:
    while (host, port) not in _running and not _has_room():
        oldest = next(iter(list(_running.values())), None)
        with trio.move_on_after(LOOK_AGAIN_S):
            if oldest is not None:
                await oldest.done()


def _has_room() -> bool:
    running, quick_since = list(_running.values()), monotonic() - QUICK_S
    return len(running) < MOST_AT_ONCE and sum(each.began_at > quick_since for each in running) < QUICK_AT_ONCE


def _started(host: str, port: int) -> _Lookup:
    lookup = _running.get((host, port))
    if lookup is None:
        lookup = _running[host, port] = _Lookup(host, port)
        # Trio's own threads without its limiter: it would be the jobs', who may all be in `to_thread`.
        trio.lowlevel.start_thread_soon(lookup.run, lambda _: None, name=f"lookup of {host}")
    return lookup


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _resolve(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = []
    for _, _, _, _, where in found:
        address, scope = str(where[0]), where[3] if len(where) == 4 else 0
        addresses.append(f"{address}%{scope}" if scope and "%" not in address else address)
    return list(dict.fromkeys(addresses))
