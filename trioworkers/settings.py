"""What one worker is configured with: one frozen value, validated once, from arguments, environment and defaults."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, Literal, get_args

import attrs

from trioworkers.errors import ConfigurationError
from trioworkers.redis_url import SCHEMES, parse_redis_url, shown_url
from trioworkers.seconds import MAX_SECONDS
from trioworkers.wire.dialects import dialect_named
from trioworkers.wire.keys import hides_a_queue
from trioworkers.wire.plain import shown

DEFAULT_URL = "redis://localhost:6379/0"
DEFAULT_CONCURRENCY = 10
Unknown = Literal["retry", "dead", "leave"]
"""What becomes of a job whose class has no handler: it fails like any other, it goes to the dead set, or others may have it."""
_NAME = r"[A-Za-z0-9_.:@-]{1,128}"
_PROCESS_ID = r"[A-Za-z0-9_.@-]{1,128}"
"""Without a colon: `a:b` on queue `q` and `b` on queue `q:a` would have one in-progress list."""
_BEGINNINGS = (*(f"{scheme}://" for scheme in SCHEMES), "embedded:")


def _shown(value: object) -> str:
    if not isinstance(value, str):
        return repr(value)
    head, slash, rest = shown_url(value).partition("/")
    _, at, host = head.rpartition("@")
    return repr(f"…@{host}{slash}{rest}" if at else f"{head}{slash}{rest}")


def _url(_: object, field: attrs.Attribute[str], value: object) -> None:
    if not isinstance(value, str) or not value.startswith(_BEGINNINGS):
        raise ConfigurationError(
            f"{field.name}: {_shown(value)} is no Redis URL; it begins with one of {', '.join(_BEGINNINGS)}"
        )
    if not value.startswith("embedded:"):
        try:
            parse_redis_url(value)
        except ConfigurationError as error:
            raise ConfigurationError(f"{field.name}: {error}") from None


def _process_id(_: object, field: attrs.Attribute[str], value: object) -> None:
    if value is not None and not (isinstance(value, str) and re.fullmatch(_PROCESS_ID, value)):
        raise ConfigurationError(f"{field.name} has at most 128 letters, digits or _.@- , not {value!r}")


_HASH_TAG = r"\{[A-Za-z0-9_.:@-]{1,126}\}"
"""A namespace that has all its keys in one slot of a cluster."""


def _namespace(_: object, field: attrs.Attribute[str], value: object) -> None:
    if not isinstance(value, str) or (value and not re.fullmatch(_NAME, value) and not re.fullmatch(_HASH_TAG, value)):
        raise ConfigurationError(
            f"{field.name} has at most 128 letters, digits or _.:@- , or is one pair of braces around such, not {value!r}"
        )
    if hides_a_queue(value):
        raise ConfigurationError(
            f"{field.name} {value!r} would share keys with queues of another one: `queue` can't be a part of it"
        )


def _seconds(least: float) -> Any:
    def check(_: object, field: attrs.Attribute[float], value: object) -> None:
        if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= MAX_SECONDS:
            said = f"a number of seconds from {least:g} to {MAX_SECONDS:,}"
            raise ConfigurationError(f"{field.name} is {said}, not {shown(value)}")

    return check


def _count(least: int) -> Any:
    def check(_: object, field: attrs.Attribute[int], value: object) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ConfigurationError(f"{field.name} is a whole number from {least} on, not {shown(value)}")

    return check


def _flag(_: object, field: attrs.Attribute[bool], value: object) -> None:
    if not isinstance(value, bool):
        raise ConfigurationError(f"{field.name} is True or False, not {value!r}")


def check_unknown(where: str, value: object) -> None:
    """Raise ConfigurationError if `value` is no `Unknown`."""
    if value not in get_args(Unknown):
        raise ConfigurationError(
            f"{where}: what becomes of jobs of unknown classes is retry, dead or leave, not {value!r}"
        )


def _unknown(_: object, field: attrs.Attribute[str], value: object) -> None:
    check_unknown(field.name, value)


def _dialect(_: object, __: attrs.Attribute[str], value: str) -> None:
    dialect_named(value)


@attrs.frozen
class Settings:
    """The options of a worker. Times in seconds.

    `process_id`: the name of this worker's in-progress lists; stable over restarts if given, else new in each. `shutdown_timeout`:
    what running jobs get to finish when the worker is stopped. `lease`: silence after which other workers take over.
    `dialect`: what is spoken on queues that say nothing else: sidekiq, resque or goworkers, with :NAMESPACE if it has one of its own.
    `max_payload_bytes`: what is larger is not sent, or buried unread; `large_payload_bytes`: what is larger is warned of. `cpu_processes`: for `Context.run_cpu`.
    `unknown`: what becomes of jobs whose class has no handler, on queues that don't say. `strict`: don't run beside another kind of worker.
    """

    redis_url: str = attrs.field(default=DEFAULT_URL, validator=_url)
    process_id: str | None = attrs.field(default=None, validator=_process_id)
    namespace: str = attrs.field(default="", validator=_namespace)
    dialect: str = attrs.field(default="sidekiq", validator=_dialect)
    shutdown_timeout: float = attrs.field(default=25.0, validator=_seconds(0))
    lease: float = attrs.field(default=30.0, validator=_seconds(0.5))
    max_payload_bytes: int = attrs.field(default=1 << 20, validator=_count(1))
    large_payload_bytes: int = attrs.field(default=100 << 10, validator=_count(1))
    cpu_processes: int = attrs.field(factory=lambda: os.cpu_count() or 1, validator=_count(1))
    unknown: Unknown = attrs.field(default="retry", validator=_unknown)
    strict: bool = attrs.field(default=False, validator=_flag)


_VARIABLES = {
    "redis_url": "REDIS_URL",
    "process_id": "TRIOWORKERS_PROCESS_ID",
    "namespace": "TRIOWORKERS_NAMESPACE",
    "dialect": "TRIOWORKERS_DIALECT",
    "shutdown_timeout": "TRIOWORKERS_SHUTDOWN_TIMEOUT",
    "lease": "TRIOWORKERS_LEASE",
}


def settings(given: Mapping[str, Any], environment: Mapping[str, str]) -> Settings:
    """What is given (None: not given), else the environment's word, else the default. Raises ConfigurationError."""
    chosen = {name: value for name, value in given.items() if value is not None}
    for name, variable in _VARIABLES.items():
        text = environment.get(variable)
        if name not in chosen and text:
            chosen[name] = _parsed(name, variable, text)
    return Settings(**chosen)


def _parsed(name: str, variable: str, text: str) -> str | float:
    if name not in ("shutdown_timeout", "lease"):
        return text
    try:
        return float(text)
    except ValueError:
        raise ConfigurationError(f"{variable} is a number of seconds, not {text!r}") from None
