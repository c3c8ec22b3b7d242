"""A connection pool that hands out connections in constant time, as an httpx transport over connections of our own.

httpcore's pool looks at every connection for every request, which at a thousand jobs with four calls each never ends. Here an
origin's idle connections are a stack: the youngest is taken, and nobody is looked at who isn't used.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import attrs
import httpx
import trio

from trioworkers.http.abandoned import GivenBack
from trioworkers.http.bounds import BoundedResponse
from trioworkers.http.dial import dial
from trioworkers.http.governor import UNSENT
from trioworkers.http.http1 import Connection, Timeouts
from trioworkers.http.names import look_up
from trioworkers.http.patience import Patience
from trioworkers.http.target import PORTS, Origin, target_of

if TYPE_CHECKING:
    from trioworkers.http import Http


class _Idle(NamedTuple):
    origin: Origin
    expires_at: float


@attrs.frozen
class _Found:
    """What was looked up for a new connection, and how many seconds of its timeout that took."""

    addresses: Sequence[str]
    took_s: float


_NOTHING_FOUND = _Found((), 0.0)


class PoolTransport(httpx.AsyncBaseTransport):
    """At most `max_connections` requests at once, over all origins; who waits is served first come first served.

    No more than that many connections are open either: for a new one the oldest idle one goes. A request is sent once: nothing is
    repeated here. An idle connection that the server has closed is noticed before it is used, and another one is taken.
    """

    def __init__(self, options: Http) -> None:
        self._options = options
        self._permits = trio.Semaphore(options.max_connections, max_value=options.max_connections)
        # All idle connections, oldest first, which is also the order in which they expire; and each origin's, as a stack.
        self._idle: dict[Connection, _Idle] = {}
        self._stacks: dict[Origin, dict[Connection, None]] = {}
        self._ssl_context: ssl.SSLContext | None = None
        self._lookups = 0
        self._patience = Patience()

    def __repr__(self) -> str:
        waiting = self._permits.statistics().tasks_waiting
        return f"<PoolTransport: {self._active} active, {len(self._idle)} idle, {waiting} waiting>"

    @property
    def _active(self) -> int:
        return self._options.max_connections - self._permits.value

    @property
    def is_busy(self) -> bool:
        """Whether calls are under way."""
        return self._active > 0 or self._lookups > 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request. Raises httpx's exceptions. Cancelled, it closes the connection that it was using."""
        origin = target_of(request).origin
        if origin[0] not in PORTS:
            raise httpx.UnsupportedProtocol(f"no such protocol: {origin[0]!r} in {request.url!r}", request=request)
        if not 0 < origin[2] < 1 << 16:
            raise httpx.LocalProtocolError(f"{origin[2]} is no port", request=request)
        timeouts: Timeouts = request.extensions.get("timeout", {})
        try:
            connection, found = await self._start(origin, timeouts)
        except BaseException:
            request.extensions[UNSENT] = True
            raise
        try:
            connection = connection or await self._dial(origin, found, timeouts)
            await connection.send(request, timeouts)
        except BaseException:
            self._give_back(origin, connection)
            raise
        return self._response(origin, connection)

    async def _start(self, origin: Origin, timeouts: Timeouts) -> tuple[Connection | None, _Found]:
        """With a permit: an idle connection or the addresses for a new one.

        Names are looked up without a permit: a slow name server for one host keeps no other from connecting.
        """
        found = _NOTHING_FOUND if origin in self._stacks else await self._look_up(origin, timeouts)
        while True:
            try:
                self._permits.acquire_nowait()
            except trio.WouldBlock:
                await self._permits.acquire()
            connection = self._take(origin)
            if connection is not None or found.addresses:
                return connection, found
            self._permits.release()  # the idle ones were taken by others, or had died
            found = await self._look_up(origin, timeouts)

    async def _look_up(self, origin: Origin, timeouts: Timeouts) -> _Found:
        began_at = trio.current_time()
        self._lookups += 1
        try:
            private_addresses = self._options.private_addresses
            addresses = await look_up(
                origin[1], origin[2], timeouts.get("connect"), private_addresses=private_addresses
            )
        finally:
            self._lookups -= 1
        return _Found(addresses, trio.current_time() - began_at)

    def _response(self, origin: Origin, connection: Connection) -> httpx.Response:
        extensions = {"http_version": b"HTTP/1.1", "reason_phrase": connection.reason}
        status, headers, body = connection.status, connection.headers, connection.rest()
        max_bytes = self._options.max_response_bytes
        if body is None or connection.is_encoded or len(body) > max_bytes:
            stream = _Body(self, origin, connection, body)
            response = BoundedResponse(status, headers=headers, stream=stream, extensions=extensions)
            response.bound(max_bytes, stream.refuse)
        else:
            self._give_back(origin, connection)
            response = BoundedResponse.came_whole(status, headers, body, extensions)
        return response

    async def aclose(self) -> None:
        """Close all idle connections; those in use are closed by who uses them."""
        for connection in list(self._idle):
            self._remove(connection)
            connection.close()

    async def expire(self) -> None:
        """End waits, and close idle connections, when their time has come, for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._patience.keep)
            while True:
                oldest = next(iter(self._idle.values()), None)
                # Nothing that becomes idle while we sleep can expire sooner than that.
                wait_s = self._options.keepalive_expiry
                await trio.sleep_until(oldest.expires_at if oldest is not None else trio.current_time() + wait_s)
                self._close_expired()

    def _close_expired(self) -> None:
        now = trio.current_time()
        while self._idle and next(iter(self._idle.values())).expires_at <= now:
            self._close_oldest()

    def _close_oldest(self) -> None:
        connection = next(iter(self._idle))
        self._remove(connection)
        connection.close()

    def _remove(self, connection: Connection) -> _Idle:
        idle = self._idle.pop(connection)
        stack = self._stacks[idle.origin]
        del stack[connection]
        if not stack:
            del self._stacks[idle.origin]
        return idle

    def _take(self, origin: Origin) -> Connection | None:
        """The youngest idle connection that is still good."""
        now = trio.current_time()
        while stack := self._stacks.get(origin):
            connection = next(reversed(stack))
            if self._remove(connection).expires_at > now and not connection.has_died():
                return connection
            connection.close()
        return None

    async def _dial(self, origin: Origin, found: _Found, timeouts: Timeouts) -> Connection:
        if len(self._idle) + self._active > self._options.max_connections:
            self._close_oldest()
        ssl_context = self._context() if origin[0] == "https" else None
        timeout_s = timeouts.get("connect")
        to = (origin[1], origin[2], found.addresses)
        return await dial(*to, ssl_context, timeout_s, self._patience, spent_s=found.took_s)

    def _give_back(self, origin: Origin, connection: Connection | None) -> None:
        self._permits.release()
        if connection is None:
            return
        if not connection.is_reusable:
            connection.close()
            return
        self._idle[connection] = _Idle(origin, trio.current_time() + self._options.keepalive_expiry)
        self._stacks.setdefault(origin, {})[connection] = None

    def _context(self) -> ssl.SSLContext:
        if self._ssl_context is None:
            verify = self._options.verify
            if isinstance(verify, ssl.SSLContext):
                self._ssl_context = verify
            else:
                self._ssl_context = httpx.create_ssl_context(verify=verify)
                self._ssl_context.set_alpn_protocols(["http/1.1"])
        return self._ssl_context


class _Body(GivenBack, httpx.AsyncByteStream):
    """A response's body; when it is closed, its connection goes back to the pool. `first`: what is there already, if that is all."""

    def __init__(self, pool: PoolTransport, origin: Origin, connection: Connection, first: bytes | None) -> None:
        super().__init__()
        self._pool = pool
        self._origin = origin
        self._connection = connection
        self._first = first
        self._refusal: Exception | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while chunk := await self._next():
            yield chunk
            if self._refusal is not None:
                raise self._refusal

    async def _next(self) -> bytes:
        first, self._first = self._first, None
        return await self._connection.read() if first is None else first

    def refuse(self, error: Exception) -> None:
        """Raise this instead of reading on."""
        self._refusal = error

    async def aclose(self) -> None:
        self.give_back()

    def give_back(self) -> None:
        """Give the permit back, and the connection, which is of use if the body was read to its end."""
        if not self.is_given_back:
            self.is_given_back = True
            self._pool._give_back(self._origin, self._connection)  # noqa: SLF001 - its own
