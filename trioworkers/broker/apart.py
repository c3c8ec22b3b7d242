"""Whether two shards are one place: two addresses of a server, an alias, a proxy. URLs don't tell, so a key is written through one and looked for through the other.

It is a new key each time. So nothing that a failover, an older copy or a replica brings along is taken for it, as a server's run_id could be.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import combinations

import attrs
import trio

from trioworkers.broker.redis.connection import Connection, retrying
from trioworkers.errors import ConfigurationError, Refused
from trioworkers.wire.keys import Keys

KEPT_S = 60.0
"""So long it is there to be found."""


@attrs.frozen
class Place:
    """One shard, as it is looked at. `name`: what people call it."""

    name: str
    connection: Connection
    keys: Keys


def in_doubt(places: Sequence[Place]) -> Iterator[tuple[Place, Place]]:
    """Those that may be one place: those of one namespace."""
    return ((one, other) for one, other in combinations(places, 2) if one.keys == other.keys)


async def is_same(one: Place, other: Place) -> bool:
    """Whether what is written in one is there in the other. Raises BrokerError. Cancellation: a key may stay, for `KEPT_S`."""
    key = one.keys.lease(f"apart:{secrets.token_hex(12)}")
    while True:
        written = trio.current_time()
        await one.connection.execute("apart", "SET", key, "", "PX", int(KEPT_S * 1000))
        if await other.connection.execute("apart", "EXISTS", key):
            await one.connection.execute("apart", "UNLINK", key)
            return True
        if trio.current_time() - written < KEPT_S / 2:
            await one.connection.execute("apart", "UNLINK", key)
            return False


def same(one: Place, other: Place) -> tuple[str, str]:
    """What is to be said of two that are one, and what to do."""
    its = [f"{each.name} ({each.connection.link.address})" for each in (one, other)]
    return (
        f"{its[0]} and {its[1]} are the same database and namespace",
        "give one of them another database, or another namespace",
    )


async def check_places(places: Sequence[Place]) -> None:
    """Raise ConfigurationError if two are one. What is away is waited for. Who isn't allowed to look says nothing. Cancellation: see `is_same`."""
    found: list[str] = []

    async def check(one: Place, other: Place) -> None:
        with suppress(Refused):  # a user who may do less than a worker must: `doctor` tells so
            if await retrying(lambda: is_same(one, other), longest_s=5.0, final=(Refused,)):
                found.append(": ".join(same(one, other)))
                nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for one, other in in_doubt(places):
            nursery.start_soon(check, one, other)
    if found:
        raise ConfigurationError(found[0])
