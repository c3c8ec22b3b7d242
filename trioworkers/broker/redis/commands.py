"""The commands that we send outside of scripts, with types of our own: whoever uses them knows nothing of coredis.

Each raises BrokerError, and is not cancelled once sent (see `Connection.call`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import coredis

from trioworkers.errors import BrokerError

if TYPE_CHECKING:
    from trioworkers.broker.redis.connection import Connection

T = TypeVar("T")
Client = coredis.Redis[bytes]
Info = Mapping[str, Any]
_BY_SCORE: Literal[coredis.PureToken.BYSCORE] = coredis.PureToken.BYSCORE


class Commands:
    """Over one connection. `operation`: what the log calls it if Redis refuses."""

    def __init__(self, connection: Connection, operation: str) -> None:
        self._connection = connection
        self._operation = operation

    async def _do(self, command: Callable[[Client], Awaitable[T]]) -> T:
        return await self._connection.call(self._operation, command)

    # ── any key ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def exists(self, key: str) -> bool:
        """Whether there is such a key."""
        return bool(await self._do(lambda client: client.exists([key])))

    async def any_exists(self, keys: Sequence[str]) -> bool:
        """Whether there is any of these."""
        return bool(await self._do(lambda client: client.exists(keys)))

    async def type_of(self, key: str) -> str:
        """Of which type it is, in Redis's word; none if there is no such key."""
        found: object = await self._do(lambda client: client.type(key))
        return found.decode() if isinstance(found, bytes) else str(found or "none")

    async def scan_lists(self, cursor: int, pattern: str, count: int) -> tuple[int, Sequence[bytes]]:
        """One step through the key space: where the next one begins (0: it is done), and the keys of lists that match."""
        return await self._do(lambda client: client.scan(cursor, match=pattern, count=count, type_="list"))

    # ── strings ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def get(self, key: str) -> bytes | None:
        """A string, if there is one."""
        return await self._do(lambda client: client.get(key))

    async def mget(self, keys: Sequence[str]) -> Sequence[bytes | None]:
        """Strings, where there are any."""
        return await self._do(lambda client: client.mget(keys))

    async def getdel(self, key: str) -> bytes | None:
        """Take a string away."""
        return await self._do(lambda client: client.getdel(key))

    async def set_for(self, key: str, value: bytes, seconds: int) -> None:
        """Write a string that expires."""
        await self._do(lambda client: client.set(key, value, ex=seconds))

    # ── lists ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def llen(self, key: str) -> int:
        """Length of a list."""
        return await self._do(lambda client: client.llen(key))

    async def lengths(self, keys: Sequence[str]) -> Sequence[int | BrokerError]:
        """Lengths of many lists; of what is none, the error."""
        return await self._connection.execute_many(self._operation, [(b"LLEN", (key,)) for key in keys])

    async def lrange(self, key: str, start: int, stop: int) -> list[bytes]:
        """Part of a list, both ends included."""
        return list(await self._do(lambda client: client.lrange(key, start, stop)))

    async def lpush(self, key: str, values: Sequence[bytes]) -> None:
        """Put values before a list."""
        await self._do(lambda client: client.lpush(key, values))

    async def lpop(self, key: str) -> bytes | None:
        """Take the first of a list."""
        found = await self._do(lambda client: client.lpop(key))
        return found if isinstance(found, bytes) else None

    # ── sets ───────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def smembers(self, key: str) -> list[str]:
        """A set's members as text, in order; what is no UTF-8 is made readable."""
        members = await self._do(lambda client: client.smembers(key))
        return sorted(member.decode(errors="replace") for member in members)

    async def sadd(self, key: str, members: Sequence[str]) -> None:
        """Add to a set."""
        await self._do(lambda client: client.sadd(key, members))

    async def srem(self, key: str, members: Sequence[str]) -> None:
        """Take out of a set."""
        await self._do(lambda client: client.srem(key, members))

    # ── sorted sets ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def zcard(self, key: str) -> int:
        """Size of a sorted set."""
        return await self._do(lambda client: client.zcard(key))

    async def zrange(
        self, key: str, start: int, stop: int, *, highest_first: bool = False
    ) -> Sequence[tuple[bytes, float]]:
        """Members with their scores by rank, both ends included."""
        rev = highest_first or None
        found: Any = await self._do(lambda client: client.zrange(key, start, stop, rev=rev, withscores=True))
        return [(member, float(score)) for member, score in found]

    async def zrange_from(self, key: str, score: float, offset: int, count: int) -> Sequence[tuple[bytes, float]]:
        """Members with this score or a higher one, lowest first, without the first `offset`."""
        least = repr(score)  # as a text: the client would round it
        found: Any = await self._do(
            lambda client: client.zrange(
                key, least, "+inf", sortby=_BY_SCORE, withscores=True, offset=offset, count=count
            )
        )
        return [(member, float(score)) for member, score in found]

    # ── hashes ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def hget(self, key: str, field: str) -> bytes | None:
        """A field, if there is one."""
        return await self._do(lambda client: client.hget(key, field))

    async def hset(self, key: str, field: str, value: str) -> None:
        """Write a field."""
        await self._do(lambda client: client.hset(key, {field: value}))

    async def hmget(self, key: str, fields: Sequence[str]) -> Sequence[bytes | None]:
        """Fields, where there are any."""
        return await self._do(lambda client: client.hmget(key, fields))

    async def hlen(self, key: str) -> int:
        """How many fields a hash has."""
        return await self._do(lambda client: client.hlen(key))

    async def hgetall(self, key: str) -> Mapping[bytes, bytes]:
        """A whole hash."""
        return await self._do(lambda client: client.hgetall(key))

    async def hgetall_of(self, keys: Sequence[str]) -> Sequence[Mapping[bytes, bytes] | BrokerError]:
        """Many small hashes, whole; of what is none, the error."""
        return await self._connection.execute_many(self._operation, [(b"HGETALL", (key,)) for key in keys])

    async def hscan(self, key: str, cursor: int | None, count: int) -> tuple[int, Mapping[bytes, bytes]]:
        """One step through a hash: where the next one begins (0: it is done), and fields."""
        found: Any = await self._do(lambda client: client.hscan(key, cursor, count=count))
        following, fields = found
        return following, fields

    # ── the server ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def ping(self) -> None:
        """There and back."""
        await self._do(lambda client: client.ping())

    async def time_s(self) -> float:
        """Redis's time, in epoch seconds."""
        reply: Any = await self._do(lambda client: client.time().raw())
        seconds, microseconds = reply
        return int(seconds) + int(microseconds) / 1_000_000

    async def info(self) -> Info:
        """What INFO says."""
        return dict(await self._do(lambda client: client.info()))

    async def config(self, name: str) -> str:
        """One setting of the server; "" if it has none of this name."""
        found = await self._do(lambda client: client.config_get([name]))
        value = next(iter(found.values()), "")
        return value.decode(errors="replace") if isinstance(value, bytes) else str(value)

    async def dbsize(self) -> int:
        """How many keys there are."""
        return await self._do(lambda client: client.dbsize())

    async def unblock(self, client_id: int) -> None:
        """End the blocking command of another connection."""
        await self._do(lambda client: client.client_unblock(client_id))

    async def execute(self, *words: str | bytes | float) -> Any:
        """Any command, word by word; its reply as it comes. For what is tried, not used."""
        return await self._connection.execute(self._operation, *words)
