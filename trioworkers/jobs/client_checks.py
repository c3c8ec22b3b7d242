"""Whether a client with redis-py can be had, and is the right one where it is called."""

from __future__ import annotations

import sys

from trioworkers.errors import ConfigurationError
from trioworkers.jobs.client_options import ClientOptions

MAX_CONNECTIONS = 50
"""Of a client, unless it is told otherwise."""


def check_usable(options: ClientOptions, module: str) -> None:
    """Raise ConfigurationError if a client with redis-py can't be had here, or has no use for this URL."""
    from importlib.util import find_spec  # noqa: PLC0415 - with a client, not before

    if options.chosen.url.startswith("embedded:"):
        raise ConfigurationError(
            f"{module}.Client starts no server: give it the URL of one, or run `trioworkers dev`, whose Redis it finds by itself"
        )
    if find_spec("redis") is None:
        raise ConfigurationError(f"{module}.Client needs redis-py: pip install 'trioworkers[sync]'")


def checked_connections(number: object) -> int:
    """`max_connections` of a client. Raises ConfigurationError."""
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise ConfigurationError(f"max_connections is a whole number from 1 on, not {number!r}")
    return number


def check_may_block() -> None:
    """Raise RuntimeError in an event loop: whatever else runs there would stand still."""
    client = client_here()
    if client:
        raise RuntimeError(f"trioworkers.sync.Client would block this event loop: use {client} here, and await it")


def client_here() -> str:
    """The client for the event loop that runs in this thread; "" for none."""
    if (trio := sys.modules.get("trio")) is not None and trio.lowlevel.in_trio_run():
        return "trioworkers.Client"
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None and asyncio._get_running_loop() is not None:  # noqa: SLF001 - the one that doesn't raise; Django asks so, too
        return "trioworkers.asyncio.Client"
    return ""
