"""Whose turn it is to write on a log that several processes share, so that each line is whole, also one that is longer than a pipe takes in one piece.

The turn is a lock on a file without a name, which the parent makes and its children inherit. Its first byte says that a long write has begun: if
whoever did so was killed in the middle, the next one begins a new line. Nobody's log waits for ever: a process that is stopped in its turn is passed by.
"""

from __future__ import annotations

import fcntl
import os
import select
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import monotonic, sleep

PATIENCE_S = 10.0
LOOK_EVERY_S = 0.005

_turn: Turn | None = None


class Turn:
    """A process's part in it. `fd`: the file's descriptor."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._file = _which_file(fd)

    @contextmanager
    def taken(self, size: int) -> Iterator[bytes]:
        """Wait for our turn to write so many bytes; what is to be written first, if a line was cut."""
        first = b""
        has_it = self._lock()
        is_long = has_it and size > select.PIPE_BUF
        try:
            if has_it:
                first = b"\n" if os.pread(self._fd, 1, 0) == b"\1" else b""
            if is_long or first:
                os.pwrite(self._fd, b"\1", 0)
            yield first
        finally:
            if has_it and self._is_ours():
                if is_long or first:
                    os.pwrite(self._fd, b"\0", 0)
                fcntl.lockf(self._fd, fcntl.LOCK_UN)

    def _lock(self) -> bool:
        given_up_at = monotonic() + PATIENCE_S
        while self._is_ours():
            try:
                fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                if monotonic() > given_up_at:
                    return False
                sleep(LOOK_EVERY_S)
            except OSError:  # a system without such locks
                return False
            else:
                return True
        return False

    def _is_ours(self) -> bool:
        """A job may have closed it, and its number may be of somebody else's file now."""
        try:
            return _which_file(self._fd) == self._file
        except OSError:
            return False


def _which_file(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def begin_turns() -> int | None:
    """From now on this process shares its log; the descriptor that those with whom it does are to inherit. None: no file can be made, so lines may mix."""
    try:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    except OSError:
        return None
    take_turns(fd)
    return fd


def take_turns(fd: int | None) -> None:
    """Share the log with those who have this descriptor."""
    global _turn  # noqa: PLW0603 - a process has one log
    _turn = None
    if fd is not None:
        with suppress(OSError):
            _turn = Turn(fd)


@contextmanager
def in_turn(size: int) -> Iterator[bytes]:
    """As `Turn.taken`; at once where nobody shares our log."""
    if _turn is None:
        yield b""
        return
    with _turn.taken(size) as first:
        yield first
