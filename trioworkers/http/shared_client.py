"""The `httpx.AsyncClient` that all jobs of a worker share."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

import httpx

from trioworkers.http.bounds import BoundedResponse, Refusable
from trioworkers.http.governor import GovernedTransport
from trioworkers.http.outgoing import Measured, announced_length, encode_head, whole_body
from trioworkers.http.plain_request import PlainRequest
from trioworkers.http.pool import PoolTransport
from trioworkers.http.reasons import with_reason
from trioworkers.http.start_limiter import StartLimiter
from trioworkers.http.target import Target, parsed
from trioworkers.http.traced import Around, TracedTransport

if TYPE_CHECKING:
    from trioworkers.http import Http
    from trioworkers.wire.hosts import HostState

logger = logging.getLogger("trioworkers")

_encode_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode  # as httpx does
STARTED_IN_A_ROUND = 100
"""Requests; they take about 10 ms."""
FAN_OUTS_IN_A_ROUND = 25
"""Each with its first calls, see `FanOut`."""

_SENDING = frozenset({"auth", "follow_redirects"})
"""Options of a call that say how the request is sent; the others make it."""

_CANT_BE_MADE = (TypeError, ValueError, RecursionError)

_PLAIN = frozenset({"json", "content", "timeout"})
_FRAMING = frozenset({b"host", b"content-length", b"transfer-encoding"})
"""Headers that say how a request is to be read: who sets one has it looked at as a whole."""
_JSON = (b"Content-Type", b"application/json")


class SharedClient(httpx.AsyncClient):
    """Keeps no cookies: what one job is given must not be sent for another."""

    _is_lent = _has_said_so = False

    def __init__(self, options: Http) -> None:
        self._pool = PoolTransport(options) if not options.http2 and options.proxy is None else None
        self._governed = GovernedTransport(self._pool or _HttpxTransport(options), options)
        self._sent_by: httpx.AsyncBaseTransport = self._governed
        super().__init__(
            transport=self._governed,
            timeout=httpx.Timeout(options.timeout, pool=None),
            follow_redirects=options.follow_redirects,
            trust_env=False,
        )
        # What httpx would add for encodings whose decoders happen to be installed can't be unpacked within bounds.
        self.headers["Accept-Encoding"] = "gzip, deflate"
        self._no_cookies = _NoCookies()
        self._start_limiter = StartLimiter(STARTED_IN_A_ROUND)
        self.fan_out_limiter = StartLimiter(FAN_OUTS_IN_A_ROUND)

    def lend(self) -> SharedClient:
        """From now on it belongs to all jobs of a worker: none of them closes it, not even with `async with`."""
        self._is_lent = True
        return self

    async def aclose(self) -> None:
        """Close it, unless it is lent: then that is said, and nothing done."""
        if not self._is_lent:
            await super().aclose()
        elif not self._has_said_so:
            self._has_said_so = True
            logger.warning("ctx.http is shared by all jobs, and stays open: a handler wanted to close it (said once)")

    async def take_back(self) -> None:
        """Close it, lent or not: for who opened it."""
        self._is_lent = False
        await self.aclose()

    async def __aenter__(self) -> Self:
        return self if self._is_lent else await super().__aenter__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await (self.aclose() if self._is_lent else super().__aexit__(exc_type, exc_value, traceback))

    @property
    def cookies(self) -> httpx.Cookies:
        """Always empty."""
        return self._no_cookies

    @cookies.setter
    def cookies(self, _: object) -> None:
        raise AttributeError(
            "the shared client keeps no cookies; send them with the request, or open a client of your own"
        )

    @property
    def is_on_the_network(self) -> bool:
        """Whether calls of our own pool are under way."""
        return self._pool is not None and self._pool.is_busy

    def observe(self, on_call: Callable[[str, str], None] | None) -> None:
        """Have each call that has ended told: its host, and a class of status or an error's name."""
        self._governed.on_call = on_call

    def hosts(self) -> Iterator[HostState]:
        """How the hosts do that jobs call."""
        return self._governed.hosts()

    def trace(self, around: Around) -> None:
        """Have each call go through `around`. To be said before the first one."""
        self._sent_by = self._transport = TracedTransport(self._governed, around)

    async def expire(self) -> None:
        """End waits for the network, and close idle connections, when their time has come, for ever."""
        if self._pool is not None:
            await self._pool.expire()

    async def exchange(
        self,
        method: str,
        url: httpx.URL | str,
        headers: Mapping[str, str],
        options: Mapping[str, Any],
        hear: Callable[[httpx.Response], None] = lambda _: None,
        *,
        has_turn: bool = False,
    ) -> httpx.Response:
        """What `request(method, url, headers=headers, **options)` does, by a shorter way where that makes no difference.

        `hear`: is given the response as soon as its status is known, before its body is read; where redirects are followed, each one.
        `has_turn`: whether it starts at once, because who makes it has waited for a round with room.

        httpx's layers for authentication, redirects, cookies and hooks cost more than sending a small request. A call that uses none of
        them is built here from httpx's public parts and given to the transport.
        """
        target = parsed(url)
        if not has_turn:
            await self._start_limiter.pass_through()
        try:
            request = self._plain_request(method, target, headers, options)
        except _CANT_BE_MADE as error:
            raise _unmade(error) from error
        if request is None:
            return await self._exchange_as_usual(method, target.url, headers, options, hear)
        started_at = time.perf_counter()
        try:
            response = await self._sent_by.handle_async_request(request)
            response.request = request
            try:
                hear(response)
                await response.aread()
            except BaseException:
                await response.aclose()
                raise
        except httpx.RequestError as error:
            error.request = request
            raise
        response.elapsed = timedelta(seconds=time.perf_counter() - started_at)
        return response

    async def _exchange_as_usual(
        self,
        method: str,
        url: httpx.URL,
        headers: Mapping[str, str],
        options: Mapping[str, Any],
        hear: Callable[[httpx.Response], None],
    ) -> httpx.Response:
        sending = {name: options[name] for name in _SENDING & options.keys()}
        try:
            request = self.build_request(
                method, url, headers=headers, **{name: options[name] for name in options.keys() - _SENDING}
            )
        except _CANT_BE_MADE as error:
            raise _unmade(error) from error
        follows = sending.pop("follow_redirects", self.follow_redirects) is True
        response = await self._send_and_read(request, hear, sending)
        history: list[httpx.Response] = []
        while follows and response.next_request is not None:
            if len(history) >= self.max_redirects:
                raise httpx.TooManyRedirects("exceeded the maximum of allowed redirects", request=response.next_request)
            history.append(response)
            response = await self._send_and_read(
                response.next_request, hear, {"auth": None}
            )  # it carries what it needs
            response.history = history.copy()
        return response

    async def _send_and_read(
        self, request: httpx.Request, hear: Callable[[httpx.Response], None], sending: Mapping[str, Any]
    ) -> httpx.Response:
        response = await self.send(request, stream=True, follow_redirects=False, **sending)
        try:
            hear(response)
            await response.aread()
        except BaseException:
            await response.aclose()
            raise
        return response

    def _plain_request(
        self, method: str, target: Target, headers: Mapping[str, str], options: Mapping[str, Any]
    ) -> PlainRequest | None:
        """The request, if nothing is asked for that needs more than this."""
        if not options.keys() <= _PLAIN or not target.is_plain:
            return None
        if self.follow_redirects or self.auth is not None or self.params or any(self.event_hooks.values()):
            return None
        body = _body(options)
        try:
            own = [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]
        except AttributeError:  # given as bytes
            return None
        names = [name.lower() for name, _ in own]
        if body is None or not _FRAMING.isdisjoint(names):
            return None
        if options.get("json") is not None and b"content-type" not in names:
            own.append(_JSON)
        timeout = options.get("timeout", self.timeout)
        timeouts = (timeout if isinstance(timeout, httpx.Timeout) else httpx.Timeout(timeout)).as_dict()
        return PlainRequest(method, target, tuple(self.headers.raw), tuple(own), body, timeouts)


def _unmade(error: Exception) -> httpx.LocalProtocolError:
    """What can't be made into a request now can't be later: the request itself is wrong."""
    return httpx.LocalProtocolError(f"the request can't be made: {type(error).__name__}: {error}")


def _body(options: Mapping[str, Any]) -> bytes | None:
    """The body as httpx would encode it; None if that is beyond us."""
    content, value = options.get("content"), options.get("json")
    if value is not None and content is None:
        return _encode_json(value).encode()
    if content is None:
        return b""
    if isinstance(content, str):
        return content.encode()
    return content if isinstance(content, bytes) else None


class _NoCookies(httpx.Cookies):
    def extract_cookies(self, response: httpx.Response) -> None:
        """Take none."""


class _HttpxTransport(httpx.AsyncHTTPTransport):
    """httpx's own transport, for HTTP/2 and proxies, with our bound on answers."""

    def __init__(self, options: Http) -> None:
        limits = httpx.Limits(
            max_connections=options.max_connections,
            max_keepalive_connections=options.max_connections,
            keepalive_expiry=options.keepalive_expiry,
        )
        super().__init__(
            verify=options.verify, http2=options.http2, proxy=options.proxy, limits=limits, trust_env=False
        )
        self._max_bytes = options.max_response_bytes

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request."""
        announced = announced_length(request, encode_head(request))
        if whole_body(request) is None and isinstance(request.stream, httpx.AsyncByteStream):
            request.stream = Measured(request.stream, announced)
        try:
            inner = await super().handle_async_request(request)
        except httpx.TransportError as error:
            message = with_reason(error)  # below it says no more than that it failed
            if message == str(error):
                raise
            raise type(error)(message) from error
        stream = Refusable(cast("httpx.AsyncByteStream", inner.stream))
        response = BoundedResponse(inner.status_code, headers=inner.headers, stream=stream, extensions=inner.extensions)
        response.bound(self._max_bytes, stream.refuse)
        return response
