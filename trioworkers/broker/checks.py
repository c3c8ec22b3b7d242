"""What we need of a Redis: version, eviction, persistence. Looked at when a worker starts, and by `trioworkers doctor`."""

from __future__ import annotations

import logging
from typing import Literal

import attrs

from trioworkers.broker.redis.commands import Info
from trioworkers.broker.redis.connection import Connection
from trioworkers.errors import BrokerError, Refused

logger = logging.getLogger("trioworkers")

OLDEST = (6, 2)
FULL = 0.9
Level = Literal["ok", "note", "warning", "problem"]


@attrs.frozen
class Finding:
    """What one check found. `advice`: what to do about it; "" if there is nothing to do.

    A note is worth knowing, a warning will hurt one day, a problem hurts now.
    """

    check: str
    level: Level
    text: str
    advice: str = ""


async def check_server(connection: Connection, shard: str = "") -> None:
    """Raises Refused if this Redis is too old; warns if it may lose jobs by its configuration. Raises Unavailable. `shard`: which of several it is, for people."""
    info = await read_info(connection)
    version = check_version(info)
    if version.level == "problem":
        raise Refused(f"{version.text}: {version.advice}")
    for finding in (check_eviction(info), check_persistence(info, await saves_snapshots(connection))):
        if finding.level in ("warning", "problem"):
            logger.warning("%s%s: %s", f"{shard}: " if shard else "", finding.text, finding.advice)


async def read_info(connection: Connection) -> Info:
    """Redis's INFO. Raises BrokerError."""
    return await connection.commands("info").info()


async def saves_snapshots(connection: Connection) -> bool:
    """Whether Redis writes snapshots; True as well if we are not allowed to ask."""
    try:
        return bool(await connection.commands("config").config("save"))
    except BrokerError:
        return True


def check_version(info: Info) -> Finding:
    """Whether this Redis has all that our scripts need."""
    version = _text(info, "redis_version")
    parts = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if parts and parts < OLDEST:
        return Finding("version", "problem", f"Redis {version} is too old", "6.2 or newer is needed")
    valkey = _text(info, "valkey_version")
    return Finding("version", "ok", f"Valkey {valkey}" if valkey else f"Redis {version}")


def check_role(info: Info) -> Finding:
    """Whether this Redis takes writes."""
    role = _text(info, "role") or "master"
    if role != "master":
        return Finding("role", "problem", "this is a replica: it takes no writes", "give the primary's address")
    followers = _text(info, "min_slaves_good_slaves")  # only where some are asked for; how many, INFO doesn't say
    if followers == "0":
        text = "it takes no writes: no replica follows it closely, and min-replicas-to-write asks for some"
        return Finding("role", "problem", text, "see why its replicas are away or late, or lower min-replicas-to-write")
    return Finding("role", "ok", f"primary with {_text(info, 'connected_slaves') or 0} replicas")


def check_eviction(info: Info) -> Finding:
    """Whether Redis may throw jobs away, or has no room for more."""
    policy = _text(info, "maxmemory_policy") or "noeviction"
    limit, used = (int(_text(info, name) or 0) for name in ("maxmemory", "used_memory"))
    if policy != "noeviction":
        text = f"Redis may evict keys (maxmemory-policy {policy}), also jobs"
        return Finding("eviction", "problem" if limit else "note", text, "set maxmemory-policy noeviction")
    if limit and used > limit * FULL:
        text = f"Redis is {used / limit:.0%} full: at maxmemory it takes no more jobs"
        advice = "raise maxmemory, or see which queues are long: trioworkers queues"
        return Finding("eviction", "problem" if used > limit else "warning", text, advice)
    return Finding("eviction", "ok", "no key is evicted (noeviction)")


def check_persistence(info: Info, snapshots: bool) -> Finding:
    """What a restart of Redis costs."""
    if _text(info, "aof_last_write_status") == "err" or _text(info, "rdb_last_bgsave_status") == "err":
        return Finding(
            "persistence",
            "problem",
            "Redis could not write to its disk",
            "see its log: is the disk full? are rights missing?",
        )
    if _text(info, "aof_enabled") != "0":
        return Finding("persistence", "ok", "append-only file")
    if snapshots:
        text = "snapshots only: if Redis dies, everything after the last snapshot is lost"
        return Finding("persistence", "note", text, "set appendonly yes")
    text = "Redis keeps nothing on disk: when it restarts, all jobs are lost"
    return Finding(
        "persistence",
        "warning",
        text,
        "set appendonly yes; an embedded: server keeps jobs if it has a directory, embedded:./DIR",
    )


def _text(info: Info, name: str) -> str:
    value = info.get(name, "")
    return value.decode() if isinstance(value, bytes) else str(value)
