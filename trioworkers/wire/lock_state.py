"""A lock as it lies in Redis: for people who look at it."""

from __future__ import annotations

import attrs

from trioworkers.wire.packing import unpack_bytes


@attrs.frozen
class LockState:
    """A lock as Redis has it. `next_jid`: of the job that is to replace or follow `jid`, its holder. `problem`: why it can't be read; then nobody has it."""

    key: str
    jid: str = ""
    since_s: float | None = None
    touched_s: float | None = None
    next_jid: str = ""
    problem: str = ""


def decode_lock(key: str, packed: bytes) -> LockState:
    """A lock's state: see `LOCK` in `unique.lua`."""
    try:
        jid, since_s, touched_s, following, *_ = unpack_bytes(packed)
        next_jid = following[1].decode(errors="replace") if following else ""
        return LockState(key, jid.decode(errors="replace"), float(since_s), float(touched_s), next_jid)
    except (ValueError, TypeError, AttributeError, IndexError, KeyError, OverflowError) as error:
        return LockState(key, problem=f"not written by us: {type(error).__name__}")
