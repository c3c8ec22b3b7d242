"""How deep JSON is nested, told from its bytes: what an interpreter could still read differs between versions, and with who asks."""

from __future__ import annotations

from itertools import accumulate

MAX_DEPTH_FOR_RUBY = 100
"""Ruby's JSON parser refuses what is nested deeper; so does its generator."""
MAX_DEPTH = 500
"""What is nested deeper is no payload for us. Half of what Python 3.11 reads, the shallowest of all, so that it is the same everywhere."""

_UP_AND_DOWN = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_ALL_BUT_BRACKETS = bytes(set(range(256)) - set(b"[{]}"))


def is_nested_deeper(text: bytes, levels: int) -> bool:
    """Whether the JSON in `text` has more than so many lists and objects inside each other. Its time is linear, and next to nothing for most."""
    if text.count(b"[") + text.count(b"{") <= levels:
        return False
    outside_strings = b"".join(text.replace(rb"\\", b"").replace(rb"\"", b"").split(b'"')[::2])
    steps = outside_strings.translate(_UP_AND_DOWN, _ALL_BUT_BRACKETS)
    return max(accumulate(memoryview(steps).cast("b")), default=0) > levels
