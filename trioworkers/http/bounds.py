"""A response that is read into memory only up to a bound, after decompression."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import httpx

from trioworkers.errors import ResponseTooLarge


class BoundedResponse(httpx.Response):
    """Its `aread` raises ResponseTooLarge beyond `max_bytes`; who streams it takes care of that himself."""

    _max_bytes = 0
    _is_being_read = False

    def bound(self, max_bytes: int, refuse: Callable[[Exception], None]) -> None:
        """Set the bound. `refuse`: has the innermost stream raise an error, so that all iterators around it end in order."""
        self._max_bytes = max_bytes
        self._refuse = refuse

    async def aread(self) -> bytes:
        """Read the whole body. Raises ResponseTooLarge."""
        self._is_being_read = True
        try:
            return await super().aread()
        finally:
            self._is_being_read = False

    async def aiter_bytes(self, chunk_size: int | None = None) -> AsyncIterator[bytes]:
        """The body's bytes, decompressed."""
        size = 0
        async for chunk in super().aiter_bytes(chunk_size):
            size += len(chunk)
            if self._is_being_read and size > self._max_bytes:
                self._refuse(ResponseTooLarge(f"the answer is longer than max_response_bytes={self._max_bytes}"))
            else:
                yield chunk
