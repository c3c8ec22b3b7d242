"""How deep JSON is nested, told from its bytes: what an interpreter could still read differs between versions, and with who asks."""

from __future__ import annotations

from itertools import accumulate

MAX_DEPTH_FOR_RUBY = 100
"""Ruby's JSON parser refuses what is nested deeper; so does its generator."""
MAX_DEPTH = 500
"""What is nested deeper is no payload for us. Half of what Python 3.11 reads, the shallowest of all, so that it is the same everywhere."""

_PIECE = 1 << 16
"""So much is looked at at a time: people look at payloads of any size, and one of nothing but quotes would take fifty times its own."""
_UP_AND_DOWN = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_ALL_BUT_BRACKETS = bytes(set(range(256)) - set(b"[{]}"))


def is_nested_deeper(text: bytes, levels: int) -> bool:
    """Whether the JSON in `text` has more than so many lists and objects inside each other. Its time is linear, and next to nothing for most."""
    if text.count(b"[") + text.count(b"{") <= levels:
        return False
    unescaped = text.replace(rb"\\", b"").replace(rb"\"", b"")
    depth, is_inside = 0, False
    for start in range(0, len(unescaped), _PIECE):
        parts = unescaped[start : start + _PIECE].split(b'"')
        steps = b"".join(parts[is_inside::2]).translate(_UP_AND_DOWN, _ALL_BUT_BRACKETS)
        depths = [*accumulate(memoryview(steps).cast("b"), initial=depth)]
        if max(depths) > levels:
            return True
        depth, is_inside = depths[-1], is_inside ^ (len(parts) % 2 == 0)
    return False
