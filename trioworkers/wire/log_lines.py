"""The last log lines of a job that keeps them (`keep_log`): bounded while they are kept, as text for Redis, and read back tolerantly."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence

import msgspec

MAX_LINES = 1000
LINE_CHARACTERS = 500
MAX_BYTES = 32 * 1024
"""Of the newest lines as many are written."""
ENDED_S = 1800
"""How long they are kept of a job that has ended well; of one that failed, or was put back:"""
FAILED_S = 7 * 86_400


class LogLine(msgspec.Struct, frozen=True, array_like=True):
    """`at_s`: epoch seconds by the worker's clock."""

    at_s: float
    level: str
    text: str


_decode = msgspec.json.Decoder(list[LogLine]).decode
_encode = msgspec.json.encode


class LogLines:
    """Those of one attempt, while it runs."""

    def __init__(self, most: int) -> None:
        self._lines: deque[LogLine] = deque(maxlen=most)

    def add(self, at_s: float, level: str, text: str) -> None:
        """One more; the oldest goes. May be called from any thread."""
        text = text if text.isascii() else text.encode(errors="replace").decode()
        self._lines.append(LogLine(at_s, level, text[:LINE_CHARACTERS]))

    def newest(self) -> list[LogLine]:
        """Those that are kept, the oldest first."""
        return _bounded(list(self._lines))

    def encode(self) -> bytes:
        """As they are kept; b"" for none."""
        lines = self.newest()
        return _encode(lines) if lines else b""


def _bounded(lines: Iterable[LogLine]) -> list[LogLine]:
    found: list[LogLine] = []
    size = 2
    for line in reversed(list(lines)):
        size += len(_encode(line)) + 1
        if size > MAX_BYTES:
            break
        found.append(line)
    return found[::-1]


def decode_log(text: bytes) -> Sequence[LogLine]:
    """What was kept; nothing of what anybody else may have written there."""
    try:
        lines = _decode(text)
    except (ValueError, RecursionError, MemoryError):
        return ()
    kept = [
        LogLine(line.at_s, line.level[:20], line.text[:LINE_CHARACTERS])
        for line in lines[-MAX_LINES:]
        if math.isfinite(line.at_s)
    ]
    return _bounded(kept)
