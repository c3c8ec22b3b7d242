"""The process in which `run_cpu` computes. Run as a file, `compute_child.py FD PARENT`: only then does it learn where the program's modules are.

Over the socket FD come, each with its length before it: how to prepare, then computations, pickled; back go a word (`READY`, or `RETIRED`,
when nothing has come for a while) or what became of one. It heeds no signal that would stop it: its worker ends it when it must, with
everything that it has started; and when the worker is gone it does so itself.
"""

from __future__ import annotations

import multiprocessing.process
import os
import pickle
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import spawn
from typing import Any

IDLE_S = 60.0
READY, FAILED, RETIRED = b"ready", b"failed", b"retired"
LENGTH_BYTES = 8
HEEDED_NOT = (signal.SIGINT, signal.SIGTERM, signal.SIGTSTP, signal.SIGTTIN)


def main(fd: int, parent: int) -> None:
    """Compute until nothing comes any more."""
    pid = os.getpid()
    # Not ignored: a program that is started from here would ignore them, too.
    for number in HEEDED_NOT:
        signal.signal(number, lambda *_: None)
    os.register_at_fork(before=_hold_signals, after_in_parent=_let_signals, after_in_child=_heed_signals)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    with socket.socket(fileno=fd) as link:
        link.set_inheritable(False)
        link.settimeout(None)  # it has our parent's `socket.setdefaulttimeout`, and wouldn't block here
        try:
            _prepare(pickle.loads(_receive(link)))  # noqa: S301 - from our parent
        except BaseException as error:  # noqa: BLE001 - whatever their module raises when it is imported once more
            _send(link, FAILED + f"{type(error).__name__}: {error}".encode(errors="replace"))
            return
        _send(link, READY)
        while select.select([link], [], [], IDLE_S)[0]:
            work = _receive(link)
            if not work:
                _leave(link)
                return
            reply = compute(work)
            if os.getpid() != pid:  # forked by the function, which has returned in both
                os._exit(0)
            _send(link, reply)
        _send(link, RETIRED)


def compute(work: bytes) -> bytes:
    """Call the pickled function; (whether it succeeded, its result or error), pickled."""
    try:
        function, args = _found(work)
        return pickle.dumps((True, function(*args)), pickle.HIGHEST_PROTOCOL)
    except BaseException as error:  # noqa: BLE001 - theirs, whatever it is; our parent raises it where it is awaited
        return _failure(error)


def _found(work: bytes) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    with _Importing():
        function, args = pickle.loads(work)  # noqa: S301 - from our parent
    return function, args


def _failure(error: BaseException) -> bytes:
    from tblib import pickling_support  # noqa: PLC0415 - only for failures

    if isinstance(error, Exception):
        with suppress(Exception):  # some errors can't be pickled, others can, but not the other way
            pickling_support.install(error)
            found = pickle.dumps((False, error), pickle.HIGHEST_PROTOCOL)
            pickle.loads(found)  # noqa: S301 - ours
            return found
    shown = RuntimeError(f"{type(error).__qualname__}: {_text(error)}").with_traceback(error.__traceback__)
    pickling_support.install(shown)
    return pickle.dumps((False, shown), pickle.HIGHEST_PROTOCOL)


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - theirs
        return "without a readable message"


class _Importing:
    """What a module does that is meant for the program itself (start children, run workers) is refused within the block."""

    def __enter__(self) -> None:
        multiprocessing.process.current_process()._inheriting = True  # type: ignore[attr-defined]  # noqa: SLF001 - as its own children do

    def __exit__(self, *_: object) -> None:
        del multiprocessing.process.current_process()._inheriting  # type: ignore[attr-defined]  # noqa: SLF001 - as above


def _prepare(how: dict[str, Any]) -> None:
    with _Importing():
        spawn.prepare(how)


_masks: dict[int, set[int]] = {}


def _hold_signals() -> None:
    # Until a forked child heeds them: one that came in between would be lost.
    _masks[threading.get_ident()] = {*signal.pthread_sigmask(signal.SIG_BLOCK, HEEDED_NOT)}


def _let_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.pop(threading.get_ident()))


def _heed_signals() -> None:
    for number in HEEDED_NOT:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    _let_signals()


def _end_with(parent: int) -> None:
    # A busy computation never looks at its socket; when the worker was killed, somebody has to end it, and what it has started.
    while os.getppid() == parent:
        time.sleep(0.5)
    _end_all()


def _end_all() -> None:
    with suppress(OSError):  # a function may have moved us into another group
        os.killpg(os.getpid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def _leave(link: socket.socket) -> None:
    """No more work comes: we are let go, and what functions have left behind is ended by our worker; or this is gone, and nobody would end it but us."""
    try:
        link.send(b"\0")
    except OSError:
        _end_all()


def _receive(link: socket.socket) -> bytes:
    head = _exactly(link, LENGTH_BYTES)
    return _exactly(link, int.from_bytes(head, "big")) if head else b""


def _exactly(link: socket.socket, size: int) -> bytes:
    """So many bytes; b"" if there is an end before them."""
    found = bytearray()
    while len(found) < size:
        part = link.recv(min(size - len(found), 1 << 20))
        if not part:
            return b""
        found += part
    return bytes(found)


def _send(link: socket.socket, what: bytes) -> None:
    try:
        link.sendall(len(what).to_bytes(LENGTH_BYTES, "big") + what)
    except OSError:  # nobody waits for it: the worker is gone
        _end_all()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
