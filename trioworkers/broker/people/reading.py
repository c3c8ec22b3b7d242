"""Reading, for people: what those share that look into one Redis database. Writes nothing. Every method raises BrokerError."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

import trio

from trioworkers.broker.redis.connection import Connection
from trioworkers.wire.keys import Keys

T = TypeVar("T")
AT_ONCE = 100


class Reader:
    """One Redis database, as one dialect has it."""

    def __init__(self, connection: Connection, keys: Keys) -> None:
        self._connection = connection
        self._read = connection.commands("look")
        self._keys = keys

    async def now_s(self) -> float:
        """Redis's time, in epoch seconds."""
        return await self._read.time_s()

    async def _pairs(self, key: str) -> Mapping[str, str]:
        pairs = await self._read.hgetall(key)
        return {name.decode(errors="replace"): value.decode(errors="replace") for name, value in pairs.items()}

    async def _all(self, calls: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
        """The results of all calls; a hundred at a time go out together."""
        results: dict[int, T] = {}

        async def one(number: int) -> None:
            results[number] = await calls[number]()

        for start in range(0, len(calls), AT_ONCE):
            failed: list[Exception] = []

            async def guarded(number: int, failed: list[Exception] = failed) -> None:
                try:
                    await one(number)
                except Exception as error:  # noqa: BLE001 - raised below, without the nursery's group around it
                    failed.append(error)

            async with trio.open_nursery() as nursery:
                for number in range(start, min(start + AT_ONCE, len(calls))):
                    nursery.start_soon(guarded, number)
            if failed:
                raise failed[0]
        return [results[number] for number in range(len(calls))]
