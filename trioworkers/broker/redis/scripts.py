"""How Lua scripts are declared: each beside its only caller, which names its KEYS and ARGV once, in order. The Lua reads them by these names."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache, cached_property
from pathlib import Path

import attrs

ENDS = ("send", "limits", "unique", "graphs", "batches", "runs", "effects")
"""The preludes of a script by which jobs end, or leave a worker."""

_PRELUDES = Path(__file__).parent.parent / "preludes"  # importlib.resources would bring in half of what reads zip files


@attrs.frozen(slots=False)
class Script:
    """One script: what we call it, what its text is put together from, and the names of its KEYS and ARGV; `*name` stands for any number at the end.

    There are fifty scripts, and most begin with the same preludes. Whole, they would be 3 MB in each process. A text is made when it is asked for, which is
    once for the digest, and when a server doesn't have the script. All files are read at the start: they may be another version's later.
    """

    name: str
    parts: Sequence[bytes] = attrs.field(repr=False)
    keys: Sequence[str] = ()
    args: Sequence[str] = ()

    @property
    def text(self) -> str:
        """As it is sent."""
        return b"".join(self.parts).decode()

    @cached_property
    def sha(self) -> str:
        """By which a server knows it."""
        return hashlib.sha1(b"".join(self.parts), usedforsecurity=False).hexdigest()


def script(
    caller: str, name: str, *, keys: Sequence[str], args: Sequence[str] = (), preludes: Sequence[str] = ()
) -> Script:
    """The script `NAME.lua` beside the file `caller`, with what it shares with others before it.

    In it KEYS and ARGV have the names that are given here; of `*payloads` it knows `before_payloads`, how many others come first.
    """
    named = f"{_named('KEYS', keys)}{_named('ARGV', args)}".encode()
    own = Path(caller).with_name(f"{name}.lua").read_bytes()
    return Script(name.replace("_", " "), (*map(_prelude, preludes), named, own), tuple(keys), tuple(args))


@cache
def _prelude(name: str) -> bytes:
    return (_PRELUDES / f"{name}.lua").read_bytes()


def _named(table: str, names: Sequence[str]) -> str:
    lines = [
        f"local before_{name[1:]} = {number}" if name.startswith("*") else f"local {name} = {table}[{number + 1}]"
        for number, name in enumerate(names)
    ]
    return "".join(f"{line}\n" for line in lines)
