"""How Lua scripts are declared: each beside its only caller, which names its KEYS and ARGV once, in order. The Lua reads them by these names."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import attrs

ENDS = ("send", "limits", "unique", "graphs", "batches", "runs", "effects")
"""The preludes of a script by which jobs end, or leave a worker."""

_PRELUDES = Path(__file__).parent.parent / "preludes"  # importlib.resources would bring in half of what reads zip files


@attrs.frozen
class Script:
    """One script: what we call it, its text, and the names of its KEYS and ARGV; `*name` stands for any number at the end."""

    name: str
    text: str = attrs.field(repr=False)
    keys: Sequence[str] = ()
    args: Sequence[str] = ()
    sha: str = attrs.field(init=False)

    @sha.default
    def _digest(self) -> str:
        return hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


def script(
    caller: str, name: str, *, keys: Sequence[str], args: Sequence[str] = (), preludes: Sequence[str] = ()
) -> Script:
    """The script `NAME.lua` beside the file `caller`, with what it shares with others before it.

    In it KEYS and ARGV have the names that are given here; of `*payloads` it knows `before_payloads`, how many others come first.
    """
    shared = "".join(_prelude(each) for each in preludes)
    text = f"{shared}{_named('KEYS', keys)}{_named('ARGV', args)}{Path(caller).with_name(f'{name}.lua').read_text()}"
    return Script(name.replace("_", " "), text, tuple(keys), tuple(args))


@cache
def _prelude(name: str) -> str:
    return (_PRELUDES / f"{name}.lua").read_text()


def _named(table: str, names: Sequence[str]) -> str:
    lines = [
        f"local before_{name[1:]} = {number}" if name.startswith("*") else f"local {name} = {table}[{number + 1}]"
        for number, name in enumerate(names)
    ]
    return "".join(f"{line}\n" for line in lines)
