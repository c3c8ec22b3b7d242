"""The Lua scripts of the rooms around, read once. Each names its KEYS, its ARGV and its result at its top."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import attrs


@attrs.frozen
class Script:
    """One script: what we call it, and its text."""

    name: str
    text: str = attrs.field(repr=False)
    sha: str = attrs.field(init=False)

    @sha.default
    def _digest(self) -> str:
        return hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


_BROKER = Path(__file__).parent.parent  # importlib.resources would bring in half of what reads zip files


@cache
def _text(name: str) -> str:
    return (_BROKER / f"{name}.lua").read_text()


def _script(name: str, *preludes: str) -> Script:
    return Script(
        name.rpartition("/")[2].replace("_", " "),
        "".join(map(_text, (*(f"preludes/{each}" for each in preludes), name))),
    )


_HOLDS = ("send", "limits", "effects")
"""What a script needs by which jobs end, or leave a worker."""

BEAT = _script("beat")
CLAIM = _script("claim")
COUNT = _script("count")
DUE = _script("due", "send", "pages")
DUE_DELAYED = _script("due_delayed", "send", "pages")
ENQUEUE = _script("enqueue", "send")
DEREGISTER = _script("deregister")
FETCH = _script("fetch", "pages")
FIND = _script("people/find")
FOREIGN_LISTS = _script("foreign_lists")
FORGET = _script("forget", *_HOLDS)
RESQUE_REGISTERED = _script("resque_registered")
PAGE = _script("page", "pages")
PICK = _script("people/pick", *_HOLDS, "move")
NEIGHBOURS = _script("neighbours")
PROMOTE = _script("promote", *_HOLDS, "move")
PURGE = _script("people/purge", *_HOLDS, "pages")
PROMOTE_DELAYED = _script("promote_delayed", *_HOLDS, "move")
PUT_BACK = _script("put_back", *_HOLDS)
RECLAIM = _script("reclaim", *_HOLDS)
RELEASE = _script("release", *_HOLDS)
RELOCATE = _script("people/relocate", *_HOLDS, "move")
RENEW = _script("renew")
REPORT = _script("report")
RESTORE = _script("people/restore")
REGISTER_RESQUE = _script("register_resque")
SETTLE = _script("settle", "send", "take")
SETTLE_HELD = _script("settle", *_HOLDS, "take")
ADMIT = _script("holds/admit", *_HOLDS)
DECLARE = _script("holds/declare")
TEND = _script("holds/tend", *_HOLDS)
SEND_CONTROL = _script("people/send_control")
