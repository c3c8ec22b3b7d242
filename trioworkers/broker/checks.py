"""What we need of a Redis, looked at when a worker starts: version, eviction, persistence."""

from __future__ import annotations

import logging
from typing import Any

from trioworkers.broker.connection import Connection
from trioworkers.errors import BrokerError, Refused

logger = logging.getLogger("trioworkers")

OLDEST = (6, 2)


async def check_server(connection: Connection) -> None:
    """Raises Refused if this Redis is too old; warns if it may lose jobs by its configuration. Raises Unavailable."""
    info: dict[str, Any] = dict(await connection.call("info", lambda client: client.info()))
    version = str(info.get("redis_version", ""))
    parts = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if parts and parts < OLDEST:
        raise Refused(f"Redis {version} is too old: 6.2 or newer is needed")
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction" and str(info.get("maxmemory", "0")) != "0":
        logger.warning("Redis may evict keys (maxmemory-policy %s), jobs among them: set it to noeviction", policy)
    if str(info.get("aof_enabled", "1")) == "0" and not await _saves_snapshots(connection):
        logger.warning("Redis keeps nothing on disk: a restart of it loses all jobs; set appendonly yes")


async def _saves_snapshots(connection: Connection) -> bool:
    try:
        config = await connection.call("config", lambda client: client.config_get(["save"]))
    except BrokerError:
        return True  # not allowed to ask: say nothing
    return bool(next(iter(config.values()), ""))
