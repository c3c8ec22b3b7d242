"""redis-py's asyncio client for a URL. Imported with a client's first call."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from trioworkers.broker.redis_py import POOL_PATIENCE_S, find_primary, options
from trioworkers.redis_url import RedisUrl, Tls
from trioworkers.tls_context import tls_context


def open_client(url: RedisUrl, max_connections: int) -> redis.asyncio.Redis:
    """A client that connects with its first command, to the server that the URL means then."""
    tls = url.tls or Tls()

    class TlsConnection(redis.asyncio.Connection):  # type: ignore[misc]  # of whatever version
        """As the blocking one."""

        def _connection_arguments(self) -> Mapping[str, Any]:
            encrypted = {"ssl": tls_context(tls), "server_hostname": self.host}
            return {**super()._connection_arguments(), **encrypted}

    class FoundConnection(TlsConnection if url.tls is not None else redis.asyncio.Connection):  # type: ignore[misc]
        """Connects to whatever server is the primary when it is opened."""

        async def _connect(self) -> None:
            self.host, self.port = await asyncio.to_thread(find_primary, url)
            await super()._connect()

    kind: type[Any] = redis.asyncio.Connection
    if url.path is not None:
        kind = redis.asyncio.UnixDomainSocketConnection
    elif url.sentinels is not None or url.cluster is not None:
        kind = FoundConnection
    elif url.tls is not None:
        kind = TlsConnection
    pool = redis.asyncio.BlockingConnectionPool(
        connection_class=kind,
        max_connections=max_connections,
        timeout=POOL_PATIENCE_S,
        retry=Retry(NoBackoff(), 0),
        **options(url),
    )
    return redis.asyncio.Redis(connection_pool=pool)
