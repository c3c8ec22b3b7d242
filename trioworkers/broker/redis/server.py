"""Which Redis is meant: the URL as it stands, or a private server of our own for `embedded:`. Asked once a process; each socket is opened by `opening.py`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import trio

from trioworkers.redis_url import parse_redis_url


@asynccontextmanager
async def open_server(url: str) -> AsyncIterator[str]:
    """The URL to connect to. `embedded:` starts a private server, which ends with the block. Raises ConfigurationError."""
    if not url.startswith("embedded:"):
        parse_redis_url(url)
        yield url
        return
    from trioworkers.broker.redis.embedded import open_embedded  # noqa: PLC0415 - few need it

    async with open_embedded(url) as private_url:
        yield private_url


async def greeting_at(url: str, patience_s: float = 1.0) -> str:
    """What a Redis at a redis:// URL says to a PING without a password: "PONG", or why it won't talk; "" if none is there."""
    parts = urlsplit(url)
    try:
        with trio.fail_after(patience_s):
            stream = await trio.open_tcp_stream(parts.hostname or "localhost", parts.port or 6379)
            async with stream:
                await stream.send_all(b"PING\r\n")
                answer = bytes(await stream.receive_some(200))
    except (OSError, trio.BrokenResourceError, trio.TooSlowError):
        return ""
    line = answer.partition(b"\r\n")[0].decode(errors="replace")
    return line[1:] if line[:1] in ("+", "-") else ""
