"""A response that is read into memory only up to a bound, after decompression."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import httpx
import trio

from trioworkers.errors import ResponseTooLarge
from trioworkers.http.charset import is_followed
from trioworkers.http.unpacking import Unpacker

OF_WHAT_IS_PACKED = 64 * 1024
"""Bytes that an answer may be longer packed than unpacked."""


Fields = Sequence[tuple[bytes, bytes]]

STEPS_AT_ONCE = 16
"""Pieces that are unpacked before others get their turn: a megabyte, in some milliseconds."""


_NO_HEADERS = httpx.Headers()


class BoundedResponse(httpx.Response):
    """Its `aread` raises ResponseTooLarge beyond `max_bytes`; who streams it takes care of that himself.

    What expands without measure is never unpacked in one go: gzip and deflate are unpacked piece by piece. Other encodings, which nobody
    asked for, stay packed, as httpx leaves what it has no decoder for. What is cut off or broken is httpx.DecodingError.
    """

    _max_bytes = 0
    _is_being_read = False
    _whole: bytes | None = None
    _unreadable: Exception | None = None
    _fields: Fields = ()
    _headers: httpx.Headers | None = None

    @classmethod
    def came_whole(cls, status: int, fields: Fields, body: bytes, extensions: dict[str, Any]) -> BoundedResponse:
        """One whose body is here already, within the bound, and not encoded. Its headers are made into httpx's when somebody looks at them: few do."""
        response = cls(status, headers=_NO_HEADERS, stream=httpx.ByteStream(body), extensions=extensions)
        response._fields, response._headers, response._whole = fields, None, body
        return response

    @property
    def headers(self) -> httpx.Headers:
        """Its headers."""
        if self._headers is None:
            self._headers = httpx.Headers(self._fields)
        return self._headers

    @headers.setter
    def headers(self, headers: httpx.Headers) -> None:
        self._headers = headers

    @property
    def charset_encoding(self) -> str | None:
        """The charset that its Content-Type names, if we follow it."""
        name = super().charset_encoding
        return name if name is not None and is_followed(name) else None

    @property
    def has_redirect_location(self) -> bool:
        """Whether it says where to go, and there is such a place: for others httpx raises, though nobody goes there."""
        return super().has_redirect_location and _is_place(self.headers["Location"], self.request.url)

    def bound(self, max_bytes: int, refuse: Callable[[Exception], None]) -> None:
        """Set the bound. `refuse`: has the innermost stream raise an error, so that all iterators around it end in order."""
        self._max_bytes = max_bytes
        self._refuse = refuse

    def came_without_body(self, error: Exception) -> None:
        """The status counts, the body could not be read: who wants it gets this error."""
        self._unreadable = error

    @property
    def content(self) -> bytes:
        """The whole body. Raises what went wrong when it was read."""
        if self._unreadable is not None:
            raise self._unreadable
        return super().content

    @property
    def num_bytes_downloaded(self) -> int:
        """How many bytes of the body came over the network."""
        return super().num_bytes_downloaded if self._whole is None else len(self._whole)

    async def aread(self) -> bytes:
        """Read the whole body. Raises ResponseTooLarge."""
        if self._whole is not None and not (self.is_closed or self.is_stream_consumed):
            self.is_stream_consumed, self._content = True, self._whole  # where httpx keeps it
            if isinstance(self.stream, httpx.ByteStream):  # ours, which nobody wants to see closed
                self.is_closed = True
            else:
                await self.aclose()
            return self._whole
        self._is_being_read = True
        try:
            return await super().aread()
        finally:
            self._is_being_read = False

    async def aiter_bytes(self, chunk_size: int | None = None) -> AsyncIterator[bytes]:
        """The body's bytes, decompressed."""
        if self._is_being_read and not self.is_stream_consumed:
            chunks = self._read_bounded() if self._whole is None else self._read_whole(self._whole)
        else:
            chunks = super().aiter_bytes(chunk_size)
        async for chunk in chunks:
            yield chunk

    async def _read_whole(self, body: bytes) -> AsyncIterator[bytes]:
        self.is_stream_consumed = True
        yield body
        await self.aclose()

    async def _read_bounded(self) -> AsyncIterator[bytes]:
        unpacker = Unpacker(self.headers.get("content-encoding", ""), self._max_bytes)
        size = packed_size = steps = 0
        async for packed in self.aiter_raw():
            try:
                packed_size += len(packed)
                self._check(packed_size - OF_WHAT_IS_PACKED)  # endless nothing, packed
                for chunk in unpacker.unpack(packed):
                    size += len(chunk)
                    self._check(size)
                    if chunk:
                        yield chunk
                    steps += 1
                    if steps % STEPS_AT_ONCE == 0:
                        await trio.lowlevel.checkpoint()
            except (ResponseTooLarge, httpx.DecodingError) as error:
                self._refuse(error)
        unpacker.finish()

    def _check(self, size: int) -> None:
        if size > self._max_bytes:
            raise ResponseTooLarge(f"the answer is longer than max_response_bytes={self._max_bytes}")


class Refusable(httpx.AsyncByteStream):
    """The body of a foreign transport, whose reading can be ended with an error from outside: it is then closed first."""

    def __init__(self, inner: httpx.AsyncByteStream) -> None:
        self._inner = inner
        self._refusal: Exception | None = None

    def refuse(self, error: Exception) -> None:
        """Raise this instead of reading on."""
        self._refusal = error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._inner:
                if self._refusal is None:
                    yield chunk
                if self._refusal is not None:
                    await self._inner.aclose()  # so that the iterators inside end by themselves
        except Exception:
            if self._refusal is None:
                raise
        if self._refusal is not None:
            raise self._refusal

    async def aclose(self) -> None:
        """Close the body."""
        await self._inner.aclose()


def _is_place(location: str, base: httpx.URL) -> bool:
    """Whether a `Location` in an answer of `base` can be made into a URL as httpx does it."""
    try:
        url = httpx.URL(location)
        if url.scheme and not url.host:
            url = url.copy_with(host=base.host)
        base.join(url)
    except httpx.InvalidURL:
        return False
    return True
