"""Unpacks gzip and deflate piece by piece, so that nothing expands without measure."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

import httpx

from trioworkers.errors import ResponseTooLarge

PIECE_BYTES = 64 * 1024
MAX_LAYERS = 5
MAX_MEMBERS = 10_000
"""Of gzip, in a row: each takes some microseconds, also an empty one."""
GZIP = b"\x1f\x8b"
_WINDOWS = {"gzip": (zlib.MAX_WBITS | 16,), "deflate": (zlib.MAX_WBITS, -zlib.MAX_WBITS)}
"""How zlib is told the format; "deflate" is sent with and without zlib's own header."""


class Unpacker:
    """For a body with this Content-Encoding. What we can't unpack within bounds stays packed; who asked for it can tell by the header.

    No layer unpacks to more than `max_bytes`: an answer that is packed twice could be small inside and out, and huge between.
    """

    def __init__(self, encoding: str, max_bytes: int) -> None:
        names = [name.strip().lower() for name in encoding.split(",")] if encoding else []
        self._layers = [_Layer(_WINDOWS[name], max_bytes) for name in reversed(names) if name in _WINDOWS]
        if len(self._layers) > MAX_LAYERS:
            raise httpx.DecodingError(f"the answer is packed {len(self._layers)} times")

    def unpack(self, data: bytes) -> Iterator[bytes]:
        """Pieces of what is in some bytes of the body; an empty one where work was done for nothing. Raises httpx.DecodingError or ResponseTooLarge."""
        return _through(self._layers, data)

    def finish(self) -> None:
        """The body has ended. Raises httpx.DecodingError if something is missing."""
        for layer in self._layers:
            layer.finish()


def _through(layers: Sequence[_Layer], data: bytes) -> Iterator[bytes]:
    if not layers:
        yield data
        return
    for chunk in layers[0].unpack(data):
        if chunk:
            yield from _through(layers[1:], chunk)
        else:
            yield chunk


class _Layer:
    """Unpacks at most `PIECE_BYTES` at a time. Of gzip, all members; what follows that is none is left alone, as gzip itself does."""

    def __init__(self, windows: tuple[int, ...], max_bytes: int) -> None:
        self._windows = windows
        self._left_bytes = max_bytes
        self._unzip: zlib._Decompress | None = None
        self._held = b""
        self._members = 0
        self._has_begun = self._has_ended = False

    def unpack(self, data: bytes) -> Iterator[bytes]:
        data, self._held = self._held + data, b""
        while data and not self._has_ended:
            if self._unzip is None and len(data) < len(GZIP):  # too little to tell what it is
                self._held = data
                return
            chunk, data = self._some(data)
            self._left_bytes -= len(chunk)
            yield chunk
            if self._left_bytes < 0:
                raise ResponseTooLarge("the answer is packed more than once, and longer in between than it may be")

    def finish(self) -> None:
        if self._unzip is not None or (self._held and not self._has_begun):
            raise httpx.DecodingError("the packed answer ends too early")

    def _some(self, data: bytes) -> tuple[bytes, bytes]:
        if self._unzip is None and self._has_begun and not (data.startswith(GZIP) and len(self._windows) == 1):
            self._has_ended = True
            return b"", b""
        if self._unzip is None:
            self._members += 1
            if self._members > MAX_MEMBERS:
                raise httpx.DecodingError(f"the packed answer has more than {MAX_MEMBERS:,} members")
        unzip, chunk = self._unzipped(data)
        self._has_begun = True
        if unzip.eof:
            self._unzip = None
            return chunk, unzip.unused_data
        self._unzip = unzip
        return chunk, unzip.unconsumed_tail

    def _unzipped(self, data: bytes) -> tuple[zlib._Decompress, bytes]:
        for window in self._windows if self._unzip is None else (0,):
            unzip = self._unzip or zlib.decompressobj(window)
            try:
                return unzip, unzip.decompress(data, PIECE_BYTES)
            except zlib.error as error:
                if self._unzip is not None or window == self._windows[-1]:
                    raise httpx.DecodingError(str(error)) from error
        raise AssertionError("the last window raises")
