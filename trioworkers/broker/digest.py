"""What stands for a payload that lies in Redis already: over a link that breaks again and again each byte that isn't sent counts."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable


class Digest(bytes):
    """A payload's SHA-1 and size, as `preludes/digests.lua` writes them. No payload is equal to it, whatever that says."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Digest) and bytes.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return bytes.__hash__(self)


def digest_of(payload: bytes) -> Digest:
    """That of a payload; a digest is its own."""
    if isinstance(payload, Digest):
        return payload
    return Digest(b"%s %d" % (hashlib.sha1(payload, usedforsecurity=False).hexdigest().encode(), len(payload)))


def resolved(found: Counter[bytes], known: Iterable[bytes]) -> Counter[bytes]:
    """The same, with the payloads that are known in the place of their digests. `known`: gone through only if there are digests."""
    if not any(isinstance(each, Digest) for each in found):
        return found
    payloads = {digest_of(payload): payload for payload in known}
    result: Counter[bytes] = Counter()
    for each, count in found.items():
        result[payloads.get(each, each) if isinstance(each, Digest) else each] += count
    return result
