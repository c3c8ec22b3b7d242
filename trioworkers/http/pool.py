"""A connection pool that hands out connections in constant time, as an httpx transport over httpcore's public connection.

httpcore's own pool looks at every connection for every request, which at a thousand jobs with four calls each never ends. Here an
origin's idle connections are a stack: the youngest is taken, and nobody is looked at who isn't used.
"""

from __future__ import annotations

import ssl
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import httpcore
import httpx
import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterable

    from trioworkers.http import Http

CLOSE_PATIENCE_S = 1.0

Connection = httpcore.AsyncHTTPConnection
Origin = tuple[bytes, bytes, int]
_PORTS = {b"http": 80, b"https": 443}


class PoolTransport(httpx.AsyncBaseTransport):
    """At most `max_connections` requests at once, over all origins; who waits is served first come first served.

    A request is sent once: nothing is repeated here. An idle connection that the server has closed is noticed before it is used.
    """

    def __init__(self, options: Http) -> None:
        self._options = options
        self._permits = trio.CapacityLimiter(options.max_connections)
        self._idle: defaultdict[Origin, list[Connection]] = defaultdict(list)
        self._idle_count = 0
        self._ssl_context: ssl.SSLContext | None = None

    def __repr__(self) -> str:
        statistics = self._permits.statistics()
        waiting = statistics.tasks_waiting
        return f"<PoolTransport: {statistics.borrowed_tokens} active, {self._idle_count} idle, {waiting} waiting>"

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request. Raises httpx's exceptions. Cancelled, it closes the connection that it was using."""
        url = request.url
        origin = (url.raw_scheme, url.raw_host, url.port or _PORTS.get(url.raw_scheme, 0))
        if url.raw_scheme not in _PORTS:
            raise httpx.UnsupportedProtocol(f"no such protocol: {url.scheme!r}", request=request)
        permit = object()
        await self._permits.acquire_on_behalf_of(permit)
        connection: Connection | None = None
        try:
            connection = await self._take(origin)
            with _translated(request):
                response = await connection.handle_async_request(_outgoing(request, origin))
        except BaseException:
            await self._give_back(origin, connection, permit, reusable=False)
            raise
        stream = _Body(self, origin, connection, permit, cast("AsyncIterable[bytes]", response.stream), request)
        return httpx.Response(response.status, headers=response.headers, stream=stream, extensions=response.extensions)

    async def aclose(self) -> None:
        """Close all idle connections; those in use are closed by who uses them."""
        idle = [connection for stack in self._idle.values() for connection in stack]
        self._idle.clear()
        self._idle_count = 0
        for connection in idle:
            await _close(connection)

    async def _take(self, origin: Origin) -> Connection:
        stack = self._idle[origin]
        while stack:
            connection = stack.pop()
            self._idle_count -= 1
            if not connection.has_expired():
                return connection
            await _close(connection)
        scheme, host, port = origin
        return Connection(
            origin=httpcore.Origin(scheme, host, port),
            ssl_context=self._context() if scheme == b"https" else None,
            keepalive_expiry=self._options.keepalive_expiry,
        )

    async def _give_back(
        self, origin: Origin, connection: Connection | None, permit: object, *, reusable: bool
    ) -> None:
        self._permits.release_on_behalf_of(permit)
        if connection is None:
            return
        if reusable and connection.is_idle() and self._idle_count < self._options.max_connections:
            self._idle[origin].append(connection)
            self._idle_count += 1
        else:
            await _close(connection)

    def _context(self) -> ssl.SSLContext:
        if self._ssl_context is None:
            verify = self._options.verify
            self._ssl_context = (
                verify if isinstance(verify, ssl.SSLContext) else httpx.create_ssl_context(verify=verify)
            )
        return self._ssl_context


class _Body(httpx.AsyncByteStream):
    """A response's body; when it is closed, its connection goes back to the pool."""

    def __init__(
        self,
        pool: PoolTransport,
        origin: Origin,
        connection: Connection,
        permit: object,
        stream: AsyncIterable[bytes],
        request: httpx.Request,
    ) -> None:
        self._pool = pool
        self._origin = origin
        self._connection = connection
        self._permit: object | None = permit
        self._stream = stream
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _translated(self._request):
            async for chunk in self._stream:
                yield chunk

    async def aclose(self) -> None:
        permit, self._permit = self._permit, None
        if permit is None:
            return
        try:
            with trio.CancelScope(deadline=trio.current_time() + CLOSE_PATIENCE_S, shield=True):
                await self._stream.aclose()  # type: ignore[attr-defined]
        finally:
            await self._pool._give_back(self._origin, self._connection, permit, reusable=True)  # noqa: SLF001 - its own


def _outgoing(request: httpx.Request, origin: Origin) -> httpcore.Request:
    scheme, host, port = origin
    return httpcore.Request(
        method=request.method,
        url=httpcore.URL(scheme=scheme, host=host, port=port, target=request.url.raw_path),
        headers=request.headers.raw,
        content=request.stream,
        extensions=request.extensions,
    )


async def _close(connection: Connection) -> None:
    # Shielded and bounded: a cancelled request must not leave its socket open, nor a silent peer hold us up.
    with trio.CancelScope(deadline=trio.current_time() + CLOSE_PATIENCE_S, shield=True):
        await connection.aclose()


@contextmanager
def _translated(request: httpx.Request) -> Iterator[None]:
    """Httpcore's exceptions as httpx's of the same name."""
    try:
        yield
    except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, httpcore.ProxyError) as error:
        kind = getattr(httpx, type(error).__name__, httpx.TransportError)
        raise kind(str(error), request=request) from error
