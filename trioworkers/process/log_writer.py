"""Writes log lines from a thread of its own: whoever logs never waits for whoever reads.

A pipe that nobody reads, a terminal that is stopped, a log driver that blocks: lines wait, at most `ROOM_BYTES` of them; what comes then is
dropped, and counted. When they are read again, it is said how many were dropped.
"""

from __future__ import annotations

import logging
import os
import select
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from time import monotonic, sleep, time
from typing import Protocol, TextIO, runtime_checkable
from weakref import WeakSet

from trioworkers.log_records import LineWriter, Said
from trioworkers.process.log_turn import in_turn

ROOM_BYTES = 1 << 20

PAUSE_S = 0.005
"""Between two writes: what comes meanwhile goes out together. A busy worker logs thousands of lines a second."""

FLUSH_S = 0.25
"""How long an end waits for what is unwritten."""


@runtime_checkable
class LineFormatter(Protocol):
    """A formatter that can do without records."""

    def line(self, said: Said, created_s: float, pid: int) -> str | None:
        """What it would make of the record; None if it needs one."""


class LogWriter(LineWriter):
    """A handler for a stream. Its descriptor is kept: a job that closes `sys.stderr` doesn't end the log."""

    def __init__(self, stream: TextIO, *, shared: bool = False) -> None:
        """`shared`: other processes write there, too. Each write is then whole lines, and no longer than a pipe takes in one piece."""
        super().__init__()
        self._shared = shared
        self._stream = stream
        self._fd = _own_descriptor(stream)
        self._lines: deque[bytes] = deque()
        self._size = 0
        self._dropped = 0
        # Taken again by whom it is held by: a destructor may log, and Python looks for garbage wherever something is made.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._idle = True
        self._thread: threading.Thread | None = None
        self._pid, self._is_forked = os.getpid(), False
        _writers.add(self)
        self._line: Callable[[Said, float, int], str | None] = _needs_a_record

    def handle(self, record: logging.LogRecord) -> bool:
        """As any handler, but for the lock around `emit`, which has its own where it needs one."""
        found: bool | logging.LogRecord = True
        if self.filters:
            with suppress(Exception, SystemExit):  # a filter that fails has not said that the record is unwanted
                found = self.filter(record)
        if found:
            self.emit(found if isinstance(found, logging.LogRecord) else record)
        return bool(found)

    def emit(self, record: logging.LogRecord) -> None:
        """Have it written soon. Never raises, never waits."""
        try:
            line = (self.format(record) + "\n").encode(errors="backslashreplace")
        except (Exception, SystemExit):  # noqa: BLE001 - arguments that don't fit their text, say; not logging's own report of it, which waits for stderr
            line = f"a line of {record.pathname}:{record.lineno} that can't be formatted: {record.msg!r}\n".encode(
                errors="backslashreplace"
            )
        self._put(line)

    def write_line(self, said: Said) -> bool:
        """See `LineWriter`."""
        line = self._line(said, time(), self._pid)
        if line is None:
            return False
        self._put((line + "\n").encode("utf-8", "backslashreplace"))
        return True

    def setFormatter(self, fmt: logging.Formatter | None) -> None:  # noqa: N802 - logging's name
        """As any handler."""
        super().setFormatter(fmt)
        self._line = fmt.line if isinstance(fmt, LineFormatter) else _needs_a_record

    def _put(self, line: bytes) -> None:
        if self._is_forked:  # a forked child: our thread is not in it, and what it says is little
            self._write(line)
            return
        with self._lock:
            if self._size + len(line) > ROOM_BYTES and self._lines:
                self._dropped += 1
                self._wake()
                return
            self._lines.append(line)
            self._size += len(line)
            if self._idle:  # else the thread knows that something waits
                self._wake()

    def _wake(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._start()
        elif self._idle:
            self._changed.notify_all()

    def flush(self) -> None:
        """Wait until all is written, but no longer than `FLUSH_S`."""
        if self._is_forked or self._thread is None:
            return
        deadline = monotonic() + FLUSH_S
        with self._changed:
            while (self._lines or not self._idle) and (left_s := deadline - monotonic()) > 0:
                self._changed.wait(left_s)

    def close(self) -> None:
        """Nothing: `dictConfig` closes handlers that it leaves in use, and at the end comes after `flush`."""

    def _start(self) -> None:
        self._idle = False
        try:
            self._thread = threading.Thread(target=self._run, name="trioworkers-log", daemon=True)
            self._thread.start()
        except RuntimeError:  # no thread just now, or the interpreter ends: the next line tries again
            self._thread, self._idle = None, True

    def _run(self) -> None:
        try:
            self._write_on()
        finally:  # a job raises in all threads, say: another one goes on
            with self._lock:
                self._thread, self._idle = None, True
                if self._lines:
                    self._start()

    def _write_on(self) -> None:
        while True:
            with self._changed:
                while not self._lines:
                    self._idle = True
                    self._changed.notify_all()
                    self._changed.wait()
                self._idle = False
                lines, self._lines = self._lines, deque()
                dropped, self._dropped, self._size = self._dropped, 0, 0
            blocks = _in_pieces(lines) if self._shared else [b"".join(lines)]
            for block in blocks:
                self._write(block)
            if dropped:
                self._write(self._told(dropped))
            sleep(PAUSE_S)

    def _told(self, dropped: int) -> bytes:
        text = "%d log lines were dropped here: whoever reads them was too slow"
        record = logging.LogRecord("trioworkers", logging.WARNING, __file__, 0, text, (dropped,), None)
        return (self.format(record) + "\n").encode()

    def _write(self, block: bytes) -> None:
        """Write it all, however long that takes. What can't be written (nobody will ever read, the disk is full) is gone."""
        with suppress(OSError, ValueError):
            if self._fd is None:
                self._stream.write(block.decode())
                self._stream.flush()
                return
            with in_turn(len(block)) as first:
                _write_all(self._fd, first + block if first else block)


def _write_all(fd: int, block: bytes) -> None:
    view = memoryview(block)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:  # somebody who shares it has made it so
            select.select([], [fd], [])


_writers: WeakSet[LogWriter] = WeakSet()


def _forked() -> None:
    for writer in _writers:
        writer._pid, writer._is_forked = os.getpid(), True  # noqa: SLF001 - its own


os.register_at_fork(after_in_child=_forked)


def _needs_a_record(_: Said, __: float, ___: int) -> None:
    return None


def _in_pieces(lines: Iterable[bytes]) -> list[bytes]:
    """Lines put together as long as they fit into what a pipe takes at once; a longer one is by itself."""
    pieces: list[bytes] = []
    piece = b""
    for line in lines:
        if piece and len(piece) + len(line) > select.PIPE_BUF:
            pieces.append(piece)
            piece = b""
        piece += line
    return [*pieces, piece] if piece else pieces


def _own_descriptor(stream: TextIO) -> int | None:
    try:
        return os.dup(stream.fileno())
    except (OSError, ValueError, AttributeError):  # a stream in memory
        return None
