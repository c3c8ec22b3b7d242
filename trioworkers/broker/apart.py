"""Whether two shards are one place: two addresses of a server, an alias, a proxy. URLs don't tell, so a key is written through one and looked for through the other.

It is a new key each time. So nothing that a failover, an older copy or a replica brings along is taken for it, as a server's run_id could be.

Of two that are one place the one that came later counts as away, as long as they are: two parts of a worker in one place would take each other's lists. It is looked at whenever a socket
is opened, before anything else is asked over it; who was let in stays.
"""

from __future__ import annotations

import secrets
from functools import partial

import attrs
import trio

from trioworkers.broker.redis.link import Ask, Door, Link
from trioworkers.errors import BrokerError, Unavailable
from trioworkers.wire.keys import Keys

KEPT_S = 60.0
"""So long it is there to be found."""


@attrs.frozen
class Place:
    """One shard, as it is looked at. `name`: what people call it."""

    name: str
    address: str
    ask: Ask
    keys: Keys


async def is_same(one: Place, other: Place) -> bool:
    """Whether what is written in one is there in the other. Raises BrokerError. Cancellation: a key may stay, for `KEPT_S`."""
    key = one.keys.lease(f"apart:{secrets.token_hex(12)}")
    while True:
        written = trio.current_time()
        await one.ask("SET", key, "", "PX", int(KEPT_S * 1000))
        if await other.ask("EXISTS", key):
            await one.ask("UNLINK", key)
            return True
        if trio.current_time() - written < KEPT_S / 2:
            await one.ask("UNLINK", key)
            return False


def same(one: Place, other: Place) -> tuple[str, str]:
    """What is to be said of two that are one, and what to do."""
    its = [f"{each.name} ({each.address})" for each in (one, other)]
    return (
        f"{its[0]} and {its[1]} are the same database and namespace",
        "give one of them another database, or another namespace",
    )


class Doors:
    """Those of one worker's shards that may be one place. `add` each before it is first used: its `ask` must not go through its own door."""

    def __init__(self) -> None:
        self._lock = trio.Lock()
        self._links: dict[str, tuple[Place, Link]] = {}
        self._admitted: set[str] = set()
        self._same: set[frozenset[str]] = set()
        """Pairs that were one when last both could be asked."""

    def add(self, place: Place, link: Link) -> Door:
        """The door of all sockets that `link` is about."""
        self._links[place.name] = place, link
        return partial(self._admit, place)

    async def _admit(self, place: Place, ask: Ask) -> None:
        """Raises Unavailable if whoever answers here is another shard that was there before."""
        arrived = attrs.evolve(place, ask=ask)
        async with self._lock:  # of two that come at once one is the first
            for name in sorted(self._admitted - {place.name}):
                other, link = self._links[name]
                pair = frozenset({place.name, name})
                if not link.is_up and pair not in self._same:
                    continue  # an outage of that one is no reason to stay away
                try:
                    is_one = await is_same(arrived, other)
                except BrokerError:  # away, or a user who may do less than a worker must: `doctor` tells so
                    is_one = pair in self._same
                if is_one:
                    self._same.add(pair)
                    self._admitted.discard(place.name)
                    raise Unavailable(": ".join(same(place, other)))
                self._same.discard(pair)
            self._admitted.add(place.name)
