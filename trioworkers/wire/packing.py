"""How the arguments of our scripts are packed: one msgpack value, as Redis's cmsgpack reads it."""

from __future__ import annotations

from typing import Any

import msgpack


def pack(value: object) -> bytes:
    """`value` for Redis's cmsgpack, which knows one kind of string: bytes and texts go as that."""
    packed: bytes = msgpack.packb(value, use_bin_type=False)
    return packed


def unpack_bytes(packed: bytes) -> Any:
    """What cmsgpack packed, whose texts are bytes. Raises ValueError for what it did not."""
    try:
        return msgpack.unpackb(packed, raw=True)
    except msgpack.UnpackException as error:
        raise ValueError(str(error)) from None


def unpack(packed: bytes) -> Any:
    """What cmsgpack packed; texts that are no UTF-8 are made readable."""
    return msgpack.unpackb(packed, unicode_errors="replace")
