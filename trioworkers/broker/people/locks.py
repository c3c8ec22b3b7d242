"""Locks of unique jobs, for people: who has which, and letting one go by hand."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import attrs

from trioworkers.broker.redis.connection import Connection
from trioworkers.broker.redis.scripts import ENDS, script
from trioworkers.wire.keys import Keys
from trioworkers.wire.lock_state import LockState, decode_lock

RELEASE_LOCK = script(__file__, "release_lock", keys=("unique",), args=("own", "key"), preludes=ENDS)
PAGE = 500


@attrs.frozen
class Spell:
    """A throttled job that was sent: `left_s`: for how long no other one is."""

    key: str
    jid: str
    left_s: float


class LockDesk:
    """Those of one Redis database. Every method raises BrokerError."""

    def __init__(self, connection: Connection, keys: Keys) -> None:
        self._connection = connection
        self._read = connection.commands("look")
        self._keys = keys

    async def count(self) -> int:
        """How many locks are held."""
        return int(await self._connection.execute("look", "HLEN", self._keys.unique))

    async def pages(self) -> AsyncGenerator[list[LockState], None]:
        """All locks, in no order; what is taken or let go meanwhile may be missed or seen twice."""
        cursor: int | None = None
        while cursor != 0:
            cursor, found = await self._read.hscan(self._keys.unique, cursor, PAGE)
            yield [decode_lock(key.decode(errors="replace"), packed) for key, packed in found.items()]

    async def lock(self, key: str) -> LockState | None:
        """One lock, if it is held."""
        packed = await self._read.hget(self._keys.unique, key)
        return None if packed is None else decode_lock(key, packed)

    async def spell(self, key: str) -> Spell | None:
        """The throttled job of this key that was sent, while no other one is."""
        jid = await self._read.get(self._keys.throttle(key))
        left_ms = int(await self._connection.execute("look", "PTTL", self._keys.throttle(key)))
        return None if jid is None or left_ms < 0 else Spell(key, jid.decode(errors="replace"), left_ms / 1000)

    async def release(self, key: str) -> str:
        """Let it go. Returns the jid of who had it, "?" if that could not be read, "" if nobody had it."""
        jid: bytes = await self._connection.run(RELEASE_LOCK, [self._keys.unique], [self._keys.own, key])
        return jid.decode(errors="replace")
