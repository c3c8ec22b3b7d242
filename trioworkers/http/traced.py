"""A transport whose calls are traced: another one, and what is put around each of its calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import httpx

Around = Callable[[Any, Callable[[Any], Awaitable[Any]]], Awaitable[Any]]
"""Is given a request and what sends it; returns the response."""


class TracedTransport(httpx.AsyncBaseTransport):
    """`inner`, traced."""

    def __init__(self, inner: httpx.AsyncBaseTransport, around: Around) -> None:
        self._inner = inner
        self._around = around

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request. Raises what `inner` raises."""
        response: httpx.Response = await self._around(request, self._inner.handle_async_request)
        return response

    async def aclose(self) -> None:
        """Close `inner`."""
        await self._inner.aclose()
