"""A call within which something else happens, before a line of one's choice: as if a signal had come there."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

WHERE = {"trioworkers", "redis", "queue.py", "threading.py", "socket.py"}


class Interruption(BaseException):
    """What a signal handler raises."""


def interrupted(call: Callable[[], object], at: int, by: Callable[[], None]) -> bool:
    """Have `by` called before the line of the client, of redis-py, or of a queue or lock that `call` reaches as number `at`; whether there was one."""
    left, happened = at, False

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left, happened
        if event == "line":
            left -= 1
            if left <= 0 and not _is_deleting(frame):
                sys.settrace(None)
                happened = True
                by()
        return trace if set(Path(frame.f_code.co_filename).parts) & WHERE else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return happened


def _is_deleting(frame: FrameType | None) -> bool:
    """An exception there is nobody's."""
    while frame is not None:
        if frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False
