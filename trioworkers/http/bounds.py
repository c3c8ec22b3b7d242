"""A response that is read into memory only up to a bound, after decompression."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Callable, Iterator

import httpx

from trioworkers.errors import ResponseTooLarge

PIECE_BYTES = 64 * 1024
_WINDOWS = {"gzip": (zlib.MAX_WBITS | 16,), "deflate": (zlib.MAX_WBITS, -zlib.MAX_WBITS)}
"""How zlib is told the format; "deflate" is sent with and without zlib's own header."""


class BoundedResponse(httpx.Response):
    """Its `aread` raises ResponseTooLarge beyond `max_bytes`; who streams it takes care of that himself.

    What expands without measure is never unpacked in one go: gzip and deflate are unpacked piece by piece, and other encodings, which
    nobody asked for, or several of them are refused with httpx.DecodingError.
    """

    _max_bytes = 0
    _is_being_read = False
    _whole: bytes | None = None

    def bound(self, max_bytes: int, refuse: Callable[[Exception], None]) -> None:
        """Set the bound. `refuse`: has the innermost stream raise an error, so that all iterators around it end in order."""
        self._max_bytes = max_bytes
        self._refuse = refuse

    def came_whole(self, body: bytes) -> None:
        """The body is here already, within the bound, and not encoded: reading it takes a shorter way."""
        self._whole = body

    @property
    def num_bytes_downloaded(self) -> int:
        """How many bytes of the body came over the network."""
        return super().num_bytes_downloaded if self._whole is None else len(self._whole)

    async def aread(self) -> bytes:
        """Read the whole body. Raises ResponseTooLarge."""
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
        unpack, size = self._unpacker(), 0
        async for packed in self.aiter_raw():
            try:
                for chunk in unpack(packed):
                    size += len(chunk)
                    self._check(size)
                    yield chunk
            except (ResponseTooLarge, httpx.DecodingError) as error:
                self._refuse(error)

    def _check(self, size: int) -> None:
        if size > self._max_bytes:
            raise ResponseTooLarge(f"the answer is longer than max_response_bytes={self._max_bytes}")

    def _unpacker(self) -> Callable[[bytes], Iterator[bytes]]:
        encoding = self.headers.get("content-encoding", "identity").strip().lower()
        if encoding == "identity":
            return lambda data: iter((data,))
        if encoding not in _WINDOWS:
            raise httpx.DecodingError(f"the answer's encoding is {encoding!r}, which was not asked for; stream it")
        return _Unzipper(_WINDOWS[encoding])


class _Unzipper:
    """Unpacks at most `PIECE_BYTES` at a time."""

    def __init__(self, windows: tuple[int, ...]) -> None:
        self._windows = windows
        self._unzip: zlib._Decompress | None = None

    def __call__(self, data: bytes) -> Iterator[bytes]:
        while data:
            chunk, data = self._some(data)
            if chunk:
                yield chunk

    def _some(self, data: bytes) -> tuple[bytes, bytes]:
        for window in self._windows if self._unzip is None else (0,):
            unzip = self._unzip or zlib.decompressobj(window)
            try:
                chunk = unzip.decompress(data, PIECE_BYTES)
            except zlib.error as error:
                if self._unzip is not None or window == self._windows[-1]:
                    raise httpx.DecodingError(str(error)) from error
            else:
                self._unzip = unzip
                return chunk, unzip.unconsumed_tail
        raise AssertionError("the last window raises")


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
