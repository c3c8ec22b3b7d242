"""What one host may take: calls at once, calls per second, and a pause for everyone when it fails in a row.

A circuit breaker after Nygard, "Release It!" (closed, open, half-open): after `failures` in a row the host is paused; when the pause is
over one call is let through, and what becomes of it decides. Each failed try doubles the pause.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import httpx
import trio

from trioworkers.errors import HostPaused

if TYPE_CHECKING:
    from trioworkers.http import Breaker, Http, Limit


EVERY_OTHER_HOST = "*"
MANY_HOSTS = 1000
"""Jobs may call any number of hosts; beyond so many, those are forgotten of which there is nothing to know."""


class Governor:
    """One host's gate: each call is admitted, reports, and leaves."""

    def __init__(self, host: str, limit: Limit | None, breaker: Breaker | None) -> None:
        self._host = host
        self._limiter = None if limit is None or limit.concurrency is None else trio.CapacityLimiter(limit.concurrency)
        self._interval_s = 0.0 if limit is None else limit.interval_s
        self._turn = trio.Lock()
        self._next_at = 0.0
        self._breaker = breaker
        self._failures = 0
        self._pause_s = 0.0
        self._paused_until = 0.0
        self._probe: object | None = None
        self._calls = 0

    @property
    def is_needed(self) -> bool:
        """Whether it holds something that a new one would not know."""
        return self._calls > 0 or max(self._paused_until, self._next_at) > trio.current_time()

    async def admit(self, call: object) -> None:
        """Wait for this call's turn. Raises HostPaused at once. Cancelled, it gives its place up."""
        self._check_open(call)
        if self._limiter is not None:
            await self._limiter.acquire_on_behalf_of(call)
        self._calls += 1
        try:
            if self._interval_s:
                await self._pace()
            self._check_open(call)
        except BaseException:
            self.leave(call)
            raise

    def leave(self, call: object) -> None:
        """The call has ended, its body included."""
        self._calls -= 1
        if self._limiter is not None:
            self._limiter.release_on_behalf_of(call)
        if self._probe is call:  # it ended without news: cancelled
            self._probe = None

    def report(self, call: object, *, failed: bool) -> None:
        """News of the host."""
        breaker = self._breaker
        if breaker is None:
            return
        if self._probe is call:
            self._probe = None
        if not failed:
            self._failures, self._pause_s, self._paused_until = 0, 0.0, 0.0
            return
        self._failures += 1
        now = trio.current_time()
        if self._failures >= breaker.failures and now >= self._paused_until:
            self._pause_s = min(self._pause_s * 2 or breaker.pause, breaker.longest_pause)
            self._paused_until = now + self._pause_s

    def _check_open(self, call: object) -> None:
        if not self._pause_s or self._probe is call:
            return
        left_s = self._paused_until - trio.current_time()
        if left_s <= 0 and self._probe is None:
            self._probe = call
        else:
            wait_s = max(left_s, 1.0)
            raise HostPaused(self._host, wait_s * random.uniform(1.0, 1.25))

    async def _pace(self) -> None:
        # One at a time is next; who gives up before its turn has come has used nothing up.
        async with self._turn:
            await trio.sleep_until(self._next_at)
            self._next_at = max(trio.current_time(), self._next_at) + self._interval_s


class GovernedTransport(httpx.AsyncBaseTransport):
    """Another transport with a governor for each host in front of it."""

    def __init__(self, inner: httpx.AsyncBaseTransport, options: Http) -> None:
        self.inner = inner
        self._options = options
        self._governors: dict[str, Governor] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request when its host may take it. Raises HostPaused, or what the inner transport raises."""
        governor = self._governor(request.url.host)
        call = object()
        await governor.admit(call)
        try:
            response = await self.inner.handle_async_request(request)
        except httpx.TransportError as error:
            governor.report(call, failed=not isinstance(error, httpx.LocalProtocolError | httpx.UnsupportedProtocol))
            governor.leave(call)
            raise
        except BaseException:
            governor.leave(call)
            raise
        governor.report(call, failed=response.status_code >= 500)
        if isinstance(response.stream, httpx.ByteStream) or not isinstance(response.stream, httpx.AsyncByteStream):
            governor.leave(call)  # it came with its body: the host is done with it
        else:
            response.stream = _Governed(response.stream, lambda: governor.leave(call))
        return response

    def _governor(self, host: str) -> Governor:
        governor = self._governors.get(host)
        if governor is None:
            if len(self._governors) >= MANY_HOSTS:
                self._governors = {name: each for name, each in self._governors.items() if each.is_needed}
            limits = self._options.limits
            limit = limits.get(host) or limits.get(EVERY_OTHER_HOST)
            governor = self._governors[host] = Governor(host, limit, self._options.breaker)
        return governor

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self.inner.aclose()


class _Governed(httpx.AsyncByteStream):
    """A body that says when it is closed."""

    def __init__(self, inner: httpx.AsyncByteStream, on_close: Callable[[], None]) -> None:
        self._inner = inner
        self._on_close: Callable[[], None] | None = on_close

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._inner.__aiter__()

    async def aclose(self) -> None:
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            try:
                await self._inner.aclose()
            finally:
                on_close()
