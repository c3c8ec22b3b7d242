"""The Lua scripts beside this file, read once, and how their arguments are packed. Each names its KEYS, its ARGV and its result at its top."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import attrs
import msgpack


def pack(value: object) -> bytes:
    """`value` for Redis's cmsgpack, which knows one kind of string: bytes and texts go as that."""
    packed: bytes = msgpack.packb(value, use_bin_type=False)
    return packed


def unpack(packed: bytes) -> Any:
    """What cmsgpack packed; texts that are no UTF-8 are made readable."""
    return msgpack.unpackb(packed, unicode_errors="replace")


@attrs.frozen
class Script:
    """One script: what we call it, and its text."""

    name: str
    text: str = attrs.field(repr=False)
    sha: str = attrs.field(init=False)

    @sha.default
    def _digest(self) -> str:
        return hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


_FOLDER = Path(__file__).with_name("lua")  # importlib.resources would bring in half of what reads zip files
_PRELUDE = (_FOLDER / "send.lua").read_text()


def _script(name: str, *, prelude: bool = False) -> Script:
    text = (_FOLDER / f"{name}.lua").read_text()
    return Script(name.replace("_", " "), _PRELUDE + text if prelude else text)


AUDIT = _script("audit")
BEAT = _script("beat")
CLAIM = _script("claim")
DUE = _script("due", prelude=True)
DUE_DELAYED = _script("due_delayed", prelude=True)
ENQUEUE = _script("enqueue", prelude=True)
FAREWELL = _script("farewell")
FETCH = _script("fetch")
FIND = _script("find")
FOREIGN_LISTS = _script("foreign_lists")
FORGET = _script("forget")
ON_THE_ROLL = _script("on_the_roll")
PICK = _script("pick", prelude=True)
NEIGHBOURS = _script("neighbours")
PROMOTE = _script("promote", prelude=True)
PURGE = _script("purge")
PROMOTE_DELAYED = _script("promote_delayed", prelude=True)
PUT_BACK = _script("put_back")
RECLAIM = _script("reclaim", prelude=True)
RELEASE = _script("release")
RELOCATE = _script("relocate", prelude=True)
RENEW = _script("renew")
REPORT = _script("report")
RESTORE = _script("restore")
ROLL = _script("roll")
SETTLE = _script("settle", prelude=True)
TELL = _script("tell")
