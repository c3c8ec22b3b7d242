"""The script by which every client sends, whatever it speaks to Redis with: see `sending.py`."""

from __future__ import annotations

from functools import partial

from trioworkers.broker.redis.scripts import ENDS, Script, script
from trioworkers.sending import Call

_ENQUEUE = partial(script, __file__, "enqueue", keys=("*token",), args=("until_s", "*calls"))
ENQUEUE = _ENQUEUE(preludes=("send",))
ENQUEUE_UNIQUE = _ENQUEUE(preludes=ENDS)
"""For calls with unique jobs."""


def script_of(call: Call) -> Script:
    """The script for a call."""
    return ENQUEUE_UNIQUE if call.has_locks else ENQUEUE
