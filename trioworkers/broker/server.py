"""Where Redis is: the URL as it stands, or a private server of our own for `embedded:`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from trioworkers.broker.connection import parse_url


@asynccontextmanager
async def open_server(url: str) -> AsyncIterator[str]:
    """The URL to connect to. `embedded:` starts a private server, which ends with the block. Raises ConfigurationError."""
    if not url.startswith("embedded:"):
        yield parse_url(url)
        return
    from trioworkers.broker.embedded import open_embedded  # noqa: PLC0415 - few need it

    async with open_embedded(url) as private_url:
        yield private_url
