"""A response that is read into memory only up to a bound, after decompression."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx

from trioworkers.errors import ResponseTooLarge


class BoundedResponse(httpx.Response):
    """Its `aread` raises ResponseTooLarge beyond `max_bytes`; who streams it takes care of that himself."""

    max_bytes = 0
    _is_being_read = False

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
            if self._is_being_read and size > self.max_bytes:
                raise ResponseTooLarge(f"the answer is longer than max_response_bytes={self.max_bytes}")
            yield chunk
