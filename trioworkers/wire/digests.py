"""Names of fan-out calls as they travel in a payload when they are too many to travel in full: eight bytes of a hash each, in base64."""

from __future__ import annotations

import base64
import binascii
import hashlib

DIGEST_BYTES = 8


def digest(name: str) -> bytes:
    """What stands for a name. Of 25,000 names two are alike once in 60 billion jobs."""
    return hashlib.blake2b(name.encode(), digest_size=DIGEST_BYTES).digest()


def pack(digests: bytes | bytearray) -> str:
    """Digests, one after the other, as they are written."""
    return base64.b64encode(digests).decode()


def unpack(value: object) -> bytes:
    """The digests that a payload brought, one after the other; none if that is not what it is."""
    if not isinstance(value, str):
        return b""
    try:
        digests = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return b""
    return digests if len(digests) % DIGEST_BYTES == 0 else b""
