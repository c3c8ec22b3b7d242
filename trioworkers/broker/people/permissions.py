"""Whether our Redis user may do what workers do: each command is tried where it harms nothing.

Tried, not asked: `ACL DRYRUN` exists from Redis 7 on, and who may run it is seldom the one who needs to know.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Sequence
from typing import Any

from trioworkers.broker.redis.connection import Connection
from trioworkers.broker.redis.refusals import is_forbidden
from trioworkers.errors import BrokerError, Refused
from trioworkers.registry import KEYS as OURS
from trioworkers.registry import Key
from trioworkers.wire.keys import Keys
from trioworkers.wire.places import Location, sets

K = "\0key"
"""Stands for a key of the try's own."""

SAMPLES: dict[str, tuple[str, ...]] = {
    "BITFIELD": (K, "GET", "u8", "0"),
    "EXISTS": (K,),
    "EXPIRE": (K, "1"),
    "GET": (K,),
    "HDEL": (K, "f"),
    "HEXISTS": (K, "f"),
    "HGET": (K, "f"),
    "HGETALL": (K,),
    "HINCRBY": (K, "f", "1"),
    "HLEN": (K,),
    "HMGET": (K, "f"),
    "HSET": (K, "f", "v"),
    "HSETNX": (K, "f", "v"),
    "HSTRLEN": (K, "f"),
    "HVALS": (K,),
    "INCR": (K,),
    "INCRBY": (K, "1"),
    "LINDEX": (K, "0"),
    "LLEN": (K,),
    "LPOS": (K, "x"),
    "LSET": (K, "0", "x"),
    "LMOVE": (K, K, "RIGHT", "LEFT"),
    "LPOP": (K, "1"),
    "LPUSH": (K, "x"),
    "LRANGE": (K, "0", "0"),
    "LREM": (K, "1", "x"),
    "LTRIM": (K, "0", "-1"),
    "MGET": (K,),
    "PERSIST": (K,),
    "PEXPIRE": (K, "1"),
    "PTTL": (K,),
    "PUBLISH": (K, ""),
    "RPOP": (K, "1"),
    "RENAME": (K, K),
    "RPUSH": (K, "x"),
    "SADD": (K, "x"),
    "SCARD": (K,),
    "SET": (K, "v", "PX", "1"),
    "SISMEMBER": (K, "x"),
    "SMEMBERS": (K,),
    "SMISMEMBER": (K, "x"),
    "SRANDMEMBER": (K, "1"),
    "SREM": (K, "x"),
    "SSCAN": (K, "0"),
    "TIME": (),
    "TYPE": (K,),
    "ZADD": (K, "1", "x"),
    "ZCARD": (K,),
    "ZCOUNT": (K, "0", "0"),
    "ZRANGE": (K, "0", "0"),
    "ZRANGEBYSCORE": (K, "0", "0"),
    "ZRANK": (K, "m"),
    "ZREM": (K, "x"),
    "ZREMRANGEBYRANK": (K, "0", "0"),
    "ZREMRANGEBYSCORE": (K, "0", "0"),
    "ZSCAN": (K, "0"),
    "ZSCORE": (K, "x"),
    "UNLINK": (K,),
    "DEL": (K,),
}
"""Every command that our scripts run, with arguments for a key that isn't there. A test compares it with the scripts."""

_TRY = """
-- KEYS     none: what keys we may touch is what we want to know
-- ARGV     1 JSON [[command, argument, …], …]  2 JSON [key, …] to be deleted at the end
-- result   for each command the error, or ''
local result = {}
for i, call in ipairs(cjson.decode(ARGV[1])) do
  local answer = redis.pcall(unpack(call))
  result[i] = type(answer) == 'table' and answer['err'] or ''
end
for _, key in ipairs(cjson.decode(ARGV[2])) do redis.pcall('DEL', key) end
return result
"""


async def forbidden(connection: Connection, keys: Keys) -> list[str]:
    """What our user is not allowed: commands, and kinds of keys. Raises Unavailable."""
    return [*await _direct(connection, keys), *await _in_scripts(connection, keys)]


async def _direct(connection: Connection, keys: Keys) -> list[str]:
    scratch = keys.lease(f"doctor:{secrets.token_hex(6)}")
    tries: dict[str, tuple[str | int | float, ...]] = {
        "INFO": ("INFO", "server"),
        "CLIENT ID": ("CLIENT", "ID"),
        "CLIENT UNBLOCK": ("CLIENT", "UNBLOCK", 0),
        "BLMOVE": ("BLMOVE", scratch, scratch, "RIGHT", "LEFT", 0.01),
        "EVALSHA": ("EVALSHA", "0" * 40, 0),
    }
    return [name for name, words in tries.items() if await _is_refused(connection, name, words)]


async def _is_refused(connection: Connection, name: str, words: Sequence[str | int | float]) -> bool:
    try:
        await connection.commands(name).execute(*words)
    except Refused as error:
        return is_forbidden(str(error))
    except BrokerError:
        pass  # a script that isn't known, a client that isn't there: it was allowed
    return False


async def _in_scripts(connection: Connection, keys: Keys) -> list[str]:
    token = secrets.token_hex(6)
    scratch = {name: keys.lease(f"doctor:{token}:{name}") for name in SAMPLES}
    calls = [[name, *(scratch[name] if arg == K else arg for arg in args)] for name, args in SAMPLES.items()]
    families = _families(keys, token)
    everything = json.dumps([*calls, *families.values()])
    try:
        errors: Any = await connection.commands("try").execute(
            "EVAL", _TRY, 0, everything, json.dumps(list(scratch.values()))
        )
    except Refused as error:
        if is_forbidden(str(error)):
            return ["EVAL"]
        raise
    texts = [error.decode(errors="replace") for error in errors]
    commands = [name for name, text in zip(SAMPLES, texts, strict=False) if is_forbidden(text)]
    if len(commands) == len([args for args in SAMPLES.values() if args]):
        commands = []  # it is their keys that are forbidden, told below
    kinds = [kind for kind, text in zip(families, texts[len(calls) :], strict=True) if is_forbidden(text)]
    return [*commands, *(f"keys like {kind}" for kind in kinds)]


def _registered(own: str) -> dict[str, Key]:
    return {f"{own}{key.name.removeprefix('tw:')}": key for key in OURS}


def _families(keys: Keys, token: str) -> dict[str, list[str]]:
    """A write to each kind of key that changes nothing."""
    own = keys.own
    return {
        keys.queue("*"): ["LREM", keys.queue(f"doctor-{token}"), "1", "x"],
        keys.queues: ["SREM", keys.queues, token],
        **{key: ["ZREM", key, token] for key in (Location(each.name).key(keys) for each in sets())},
        keys.processes: ["SREM", keys.processes, token],
        keys.paused: ["SREM", keys.paused, token],
        keys.process("HOST:PID:NONCE"): ["DEL", keys.process(f"doctor:0:{token}")],
        keys.stat("*"): ["DEL", keys.stat(f"doctor-{token}")],
        **{name: _try_of(key, own, token) for name, key in _registered(own).items()},
    }


def _try_of(key: Key, own: str, token: str) -> list[str]:
    """A write to a key of ours that changes nothing."""
    name = own + re.sub("[A-Z]+", f"doctor-{token}", key.name.removeprefix("tw:"))
    return {
        "string": ["SET", name, "", "EX", "1", "XX"],
        "list": ["LREM", name, "1", token],
        "set": ["SREM", name, token],
        "sorted set": ["ZREM", name, token],
        "hash": ["HDEL", name, token],
    }[key.type]
