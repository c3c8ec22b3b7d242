"""What `doctor` says of keys that somebody has written over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trioworkers.broker.checks import Finding
from trioworkers.broker.redis.connection import Connection
from trioworkers.errors import Refused
from trioworkers.printable import as_word
from trioworkers.registry import KEYS
from trioworkers.wire import places
from trioworkers.wire.keys import Keys
from trioworkers.wire.places import Location

_TYPES = {"sorted set": "zset"}
MAX_QUEUES = 1000
MAX_PROCESSES = 300


async def written_over(connection: Connection, kinds: Mapping[str, str], advice: str) -> Sequence[Finding]:
    """Of these keys, with the types that they should have, those of another type. `advice`: what to do about it, with `{key}`. Raises BrokerError."""
    found = []
    for key, kind in kinds.items():
        is_type = await connection.commands("doctor").type_of(key)
        if is_type not in ("none", _TYPES.get(kind, kind)):
            said = f"{key} is a {is_type}, and should be a {kind}: somebody has written over it"
            found.append(Finding("keys", "problem", said, advice.format(key=as_word(key))))
    return found


async def key_findings(connection: Connection, keys: Keys, queues: Sequence[str]) -> Sequence[Finding]:
    """Of what Sidekiq and we have in common, and of these queues. Raises BrokerError."""
    kinds = {keys.queues: "set", keys.processes: "set", keys.paused: "set"}
    sets = [Location(place.name).key(keys) for place in places.sets()]
    registered = {f"{keys.own}{key.name.removeprefix('tw:')}" for key in KEYS}  # for these see `limit_findings`
    kinds |= {key: "sorted set" for key in sets if key not in registered}
    kinds |= {keys.queue(queue): "list" for queue in queues[:MAX_QUEUES]}
    found = await written_over(connection, kinds, "see what it is, then RENAME it: until then no job is moved there")
    return [*found, *await _records(connection, keys)]


async def _records(connection: Connection, keys: Keys) -> Sequence[Finding]:
    """Of the heartbeats of processes, and of what they run."""
    try:
        identities = sorted(await connection.commands("doctor").smembers(keys.processes))[:MAX_PROCESSES]
    except Refused:  # it is no set itself, and has been found
        return []
    records = {key: "hash" for each in identities for key in (keys.process(each), *keys.running(each))}
    return await written_over(connection, records, "see what it is, then RENAME it: until then its process isn't shown")
