"""A connection pool that hands out connections in constant time, as an httpx transport over connections of our own.

httpcore's pool looks at every connection for every request, which at a thousand jobs with four calls each never ends. Here an
origin's idle connections are a stack: the youngest is taken, and nobody is looked at who isn't used.
"""

from __future__ import annotations

import ssl
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import attrs
import httpx
import trio

from trioworkers.http.bounds import BoundedResponse
from trioworkers.http.connection import Connection, Timeouts
from trioworkers.http.dial import dial

if TYPE_CHECKING:
    from trioworkers.http import Http

Origin = tuple[str, str, int]
_PORTS = {"http": 80, "https": 443}


@attrs.frozen
class _Idle:
    connection: Connection
    expires_at: float


class PoolTransport(httpx.AsyncBaseTransport):
    """At most `max_connections` requests at once, over all origins; who waits is served first come first served.

    A request is sent once: nothing is repeated here. An idle connection that the server has closed is noticed before it is used.
    """

    def __init__(self, options: Http) -> None:
        self._options = options
        self._permits = trio.CapacityLimiter(options.max_connections)
        self._idle: defaultdict[Origin, list[_Idle]] = defaultdict(list)
        self._idle_count = 0
        self._ssl_context: ssl.SSLContext | None = None

    def __repr__(self) -> str:
        statistics = self._permits.statistics()
        waiting = statistics.tasks_waiting
        return f"<PoolTransport: {statistics.borrowed_tokens} active, {self._idle_count} idle, {waiting} waiting>"

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request. Raises httpx's exceptions. Cancelled, it closes the connection that it was using."""
        url = request.url
        origin = (url.scheme, url.host, url.port or _PORTS.get(url.scheme, 0))
        if url.scheme not in _PORTS:
            raise httpx.UnsupportedProtocol(f"no such protocol: {url.scheme!r}", request=request)
        timeouts: Timeouts = request.extensions.get("timeout", {})
        permit = object()
        await self._permits.acquire_on_behalf_of(permit)
        connection: Connection | None = None
        try:
            connection = await self._take(origin, timeouts)
            await connection.send(request, timeouts)
        except BaseException:
            await self._give_back(origin, connection, permit)
            raise
        body = _Body(self, origin, connection, permit, timeouts)
        extensions = {"http_version": b"HTTP/1.1", "reason_phrase": connection.reason}
        response = BoundedResponse(connection.status, headers=connection.headers, stream=body, extensions=extensions)
        response.bound(self._options.max_response_bytes, body.refuse)
        return response

    async def aclose(self) -> None:
        """Close all idle connections; those in use are closed by who uses them."""
        idle = [each.connection for stack in self._idle.values() for each in stack]
        self._idle.clear()
        self._idle_count = 0
        for connection in idle:
            await connection.aclose()

    async def _take(self, origin: Origin, timeouts: Timeouts) -> Connection:
        stack = self._idle[origin]
        while stack:
            idle = stack.pop()
            self._idle_count -= 1
            if idle.expires_at > trio.current_time() and not idle.connection.has_died():
                return idle.connection
            await idle.connection.aclose()
        ssl_context = self._context() if origin[0] == "https" else None
        private_addresses = self._options.private_addresses
        connect_s = timeouts.get("connect")
        return await dial(origin[1], origin[2], ssl_context, connect_s, private_addresses=private_addresses)

    async def _give_back(self, origin: Origin, connection: Connection | None, permit: object) -> None:
        self._permits.release_on_behalf_of(permit)
        if connection is None:
            return
        if connection.is_reusable and self._idle_count < self._options.max_connections:
            expires_at = trio.current_time() + self._options.keepalive_expiry
            self._idle[origin].append(_Idle(connection, expires_at))
            self._idle_count += 1
        else:
            await connection.aclose()

    def _context(self) -> ssl.SSLContext:
        if self._ssl_context is None:
            verify = self._options.verify
            if isinstance(verify, ssl.SSLContext):
                self._ssl_context = verify
            else:
                self._ssl_context = httpx.create_ssl_context(verify=verify)
                self._ssl_context.set_alpn_protocols(["http/1.1"])
        return self._ssl_context


class _Body(httpx.AsyncByteStream):
    """A response's body; when it is closed, its connection goes back to the pool."""

    def __init__(
        self, pool: PoolTransport, origin: Origin, connection: Connection, permit: object, timeouts: Timeouts
    ) -> None:
        self._pool = pool
        self._origin = origin
        self._connection = connection
        self._permit: object | None = permit
        self._timeouts = timeouts
        self._refusal: Exception | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while chunk := await self._connection.read(self._timeouts):
            yield chunk
            if self._refusal is not None:
                raise self._refusal

    def refuse(self, error: Exception) -> None:
        """Raise this instead of reading on."""
        self._refusal = error

    async def aclose(self) -> None:
        permit, self._permit = self._permit, None
        if permit is not None:
            await self._pool._give_back(self._origin, self._connection, permit)  # noqa: SLF001 - its own
