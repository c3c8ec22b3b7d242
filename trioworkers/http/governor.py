"""What one host may take: calls at once, calls per second, and a pause for everyone when it fails in a row.

A circuit breaker after Nygard, "Release It!" (closed, open, half-open): after `failures` in a row the host is paused; when the pause is
over one call is let through, and what becomes of it decides. Each failed try doubles the pause.

A call holds up to three things: a permit of `Limit.concurrency`, a turn of `Limit.rate`, and the breaker's probe. `Governor.leave` gives all of
them back, however the call ends; a turn only if nothing was sent.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import httpx
import trio

from trioworkers.errors import HostPaused
from trioworkers.http.abandoned import GivenBack
from trioworkers.http.idempotency import sign
from trioworkers.http.names import check_host
from trioworkers.http.target import Target, target_of
from trioworkers.http.time_left import tell
from trioworkers.wire.hosts import HostState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trioworkers.http import Breaker, Http, Limit

logger = logging.getLogger("trioworkers")

EVERY_OTHER_HOST = "*"
MANY_HOSTS = 1000
"""Jobs may call any number of hosts; beyond so many, those are forgotten of which there is nothing to know."""

UNSENT = "trioworkers.unsent"
"""An extension of a request that our pool gave up before it went to the network."""

_NOT_THE_HOSTS_FAULT = httpx.LocalProtocolError | httpx.UnsupportedProtocol | httpx.PoolTimeout


class Call:
    """What one call holds of its governor."""

    __slots__ = ("epoch", "has_left", "has_permit", "turn_at")

    def __init__(self) -> None:
        self.epoch = 0
        self.has_permit = self.has_left = False
        self.turn_at: float | None = None


class Governor:
    """One host's gate: each call is admitted, reports, and leaves."""

    def __init__(self, host: str, limit: Limit | None, breaker: Breaker | None) -> None:
        self._host = host
        self._limiter = None if limit is None or limit.concurrency is None else trio.CapacityLimiter(limit.concurrency)
        self._interval_s = 0.0 if limit is None else limit.interval_s
        self._turn = trio.Lock()
        self._next_at = 0.0
        self._sooner = trio.Event()
        self._breaker = breaker
        self._failures = 0
        self._pause_s = 0.0
        self._paused_at = self._paused_until = 0.0
        self._epoch = 0
        self._probe: Call | None = None
        self._calls = 0
        self._failure = ""

    @property
    def is_needed(self) -> bool:
        """Whether it holds something that a new one would not know."""
        return self._calls > 0 or max(self._paused_until, self._next_at) > trio.current_time()

    def state(self) -> HostState:
        """As it is told to people."""
        waiting = int(self._turn.locked()) + self._turn.statistics().tasks_waiting
        if self._limiter is not None:
            waiting += self._limiter.statistics().tasks_waiting
        left_s = self._paused_until - trio.current_time()
        return HostState(
            self._host,
            self._calls - waiting,
            waiting,
            0 if self._limiter is None else int(self._limiter.total_tokens),
            self._failures,
            0.0 if not self._pause_s else left_s if left_s > 0 else math.inf,
            self._failure if self._failures else "",
        )

    async def admit(self, call: Call) -> None:
        """Wait for this call's turn. Raises HostPaused at once. Cancelled, it gives its place up."""
        self._calls += 1
        try:
            self._check_open(call)
            if self._limiter is not None:
                await self._limiter.acquire_on_behalf_of(call)
                call.has_permit = True
                self._check_open(call)
            if self._interval_s:
                await self._pace(call)
        except BaseException:
            self.leave(call, sent=False)
            raise
        call.epoch = self._epoch

    def leave(self, call: Call, *, sent: bool = True) -> None:
        """The call has ended, its body included: what it held is given back. A second time does nothing."""
        if call.has_left:
            return
        call.has_left = True
        self._calls -= 1
        if call.has_permit and self._limiter is not None:
            self._limiter.release_on_behalf_of(call)
        if self._probe is call:  # it ended without news: cancelled
            self._probe = None
        # Later turns are counted from this one; it can only be had back while it is the last.
        if call.turn_at is not None and not sent and self._next_at == call.turn_at + self._interval_s:
            self._next_at = call.turn_at
            self._sooner.set()

    def report(self, call: Call, failure: str | None) -> None:
        """News of the host: how this call failed, or that it didn't."""
        breaker = self._breaker
        if breaker is None:
            return
        if self._probe is call:
            self._probe = None
        if failure is None:
            self._resume()
            return
        # What began before the pause tells nothing of the host after it.
        if call.epoch != self._epoch:
            return
        self._failures += 1
        self._failure = failure
        if self._failures >= breaker.failures:
            self._pause(breaker, failure)

    def _pause(self, breaker: Breaker, failure: str) -> None:
        now = trio.current_time()
        if not self._pause_s:
            self._paused_at = now
            text = "host %s is paused for everyone, for %.0f s and then as long as it fails: %d calls in a row failed, the last with %s"
            logger.warning(text, self._host, breaker.pause, self._failures, failure)
        self._epoch += 1
        self._pause_s = min(self._pause_s * 2 or breaker.pause, breaker.longest_pause)
        self._paused_until = now + self._pause_s

    def _resume(self) -> None:
        if self._pause_s:
            logger.info(
                "host %s answers again; it was paused for %.0f s", self._host, trio.current_time() - self._paused_at
            )
        self._failures, self._pause_s, self._paused_until = 0, 0.0, 0.0

    def _check_open(self, call: Call) -> None:
        if not self._pause_s or self._probe is call:
            return
        left_s = self._paused_until - trio.current_time()
        if left_s <= 0 and self._probe is None:
            self._probe = call
        else:
            wait_s = max(left_s, 1.0)
            raise HostPaused(self._host, wait_s * random.uniform(1.0, 1.25))

    async def _pace(self, call: Call) -> None:
        # One at a time is next; who gives up before its turn has come, or finds the host paused then, has used nothing up.
        async with self._turn:
            while (now := trio.current_time()) < self._next_at:
                self._sooner = trio.Event()
                with trio.move_on_at(self._next_at):
                    await self._sooner.wait()
            self._check_open(call)
            call.turn_at = now
            self._next_at = now + self._interval_s


class GovernedTransport(httpx.AsyncBaseTransport):
    """Another transport with a governor for each host in front of it."""

    def __init__(self, inner: httpx.AsyncBaseTransport, options: Http) -> None:
        self.inner = inner
        self._options = options
        self._governors: dict[str, Governor] = {}
        self._look_again_at = MANY_HOSTS
        self.on_call: Callable[[str, str], None] | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request when its host may take it. Raises HostPaused, or what the inner transport raises."""
        governor = self._governor(target_of(request))
        call = Call()
        await governor.admit(call)
        sign(request)
        tell(request, self._options.deadline_header)  # now that it goes out: it may have waited for its turn
        try:
            response = await self.inner.handle_async_request(request)
        except BaseException as error:
            if isinstance(error, httpx.TransportError) and not isinstance(error, _NOT_THE_HOSTS_FAULT):
                governor.report(call, f"{type(error).__name__}: {error}")
            governor.leave(call, sent=not request.extensions.pop(UNSENT, False))
            if self.on_call is not None:
                self.on_call(request.url.host, type(error).__name__)
            raise
        if self.on_call is not None:
            self.on_call(request.url.host, f"{response.status_code // 100}xx")
        governor.report(call, None if response.status_code < 500 else f"status {response.status_code}")
        if isinstance(response.stream, httpx.ByteStream) or not isinstance(response.stream, httpx.AsyncByteStream):
            governor.leave(call)  # it came with its body: the host is done with it
        else:
            response.stream = _Governed(response.stream, governor, call)
        return response

    def hosts(self) -> Iterator[HostState]:
        """Of those hosts of which there is anything to tell."""
        return (
            state
            for governor in self._governors.values()
            if (state := governor.state()).calls or state.waiting or state.failures or state.paused_s
        )

    def _governor(self, target: Target) -> Governor:
        host = target.host
        governor = self._governors.get(host)
        if governor is None:
            check_host(target.origin[1])
            if len(self._governors) >= self._look_again_at:
                self._governors = {name: each for name, each in self._governors.items() if each.is_needed}
                self._look_again_at = max(MANY_HOSTS, 2 * len(self._governors))
            limits = self._options.limits
            limit = limits.get(host) or limits.get(EVERY_OTHER_HOST)
            governor = self._governors[host] = Governor(host, limit, self._options.breaker)
        return governor

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self.inner.aclose()


class _Governed(GivenBack, httpx.AsyncByteStream):
    """A body that says when it is closed."""

    def __init__(self, inner: httpx.AsyncByteStream, governor: Governor, call: Call) -> None:
        super().__init__()
        self._inner = inner
        self._governor = governor
        self._call = call

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._inner.__aiter__()

    async def aclose(self) -> None:
        try:
            await self._inner.aclose()
        finally:
            self.give_back()

    def give_back(self) -> None:
        """Leave the governor."""
        self._governor.leave(self._call)
        self.is_given_back = True
