"""A request that asks for nothing special: its head is put together from what is the same for many, and httpx's view of it made for who looks.

Reading headers into `httpx.Headers` and writing them out again is much of what a small request costs before it is sent.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import httpx

from trioworkers.http.outgoing import check_head
from trioworkers.http.target import Target

Fields = tuple[tuple[bytes, bytes], ...]

_WITH_A_BODY = frozenset({"POST", "PUT", "PATCH"})
"""Methods that say how long their body is, even if there is none."""


class PlainRequest(httpx.Request):
    """To `target`, with the client's `defaults` where its `own` fields say nothing else, and a body in memory; neither says where it goes or how long it is.

    As soon as somebody has had the headers in hand, they are what goes out: he may have changed them.
    """

    def __init__(
        self, method: str, target: Target, defaults: Fields, own: Fields, body: bytes, timeouts: dict[str, float | None]
    ) -> None:
        # Not httpx's own: it would read the headers.
        self.method = self._method = method.upper()
        self.url = target.url
        self.extensions = {"timeout": timeouts}
        self.stream = self._stream = httpx.ByteStream(body)
        self.target = target
        self._body = body
        self._own = own
        self._begin = _beginning(self._method, target, defaults, tuple([name.lower() for name, _ in own]))
        self._headers: httpx.Headers | None = None

    @property
    def headers(self) -> httpx.Headers:
        """All of them, as httpx has them."""
        if self._headers is None:
            self._headers = httpx.Headers([*self._begin[0], *self._own, *self._length()])
        return self._headers

    @headers.setter
    def headers(self, headers: httpx.Headers) -> None:
        self._headers = headers

    @property
    def content(self) -> bytes:
        """The body."""
        return self.read()

    def read(self) -> bytes:
        """The body."""
        return self._body if self.stream is self._stream else super().read()

    def encode_head(self) -> bytes | None:
        """What goes out before the body; None if somebody may have changed the request. Raises httpx.LocalProtocolError, as `outgoing.encode_head`."""
        if self._headers is not None or self.stream is not self._stream or self.method is not self._method:
            return None
        if self.url is not self.target.url:
            return None
        fields, begin = self._begin
        own = [*self._own, *self._length()]
        head = b"".join([begin, *[b"%b: %b\r\n" % field for field in own], b"\r\n"])
        check_head(self, head, len(fields) + len(own))
        return head

    def _length(self) -> Fields:
        if self._body or self._method in _WITH_A_BODY:
            return ((b"Content-Length", b"%d" % len(self._body)),)
        return ()

    def __reduce__(self) -> tuple[Any, ...]:
        return _usual, (self.method, self.url, self.headers.raw, self.read())


def _usual(method: str, url: httpx.URL, headers: list[tuple[bytes, bytes]], body: bytes) -> httpx.Request:
    """As it arrives in another process."""
    return httpx.Request(method, url, headers=headers, content=body)


@lru_cache(maxsize=1024)
def _beginning(method: str, target: Target, defaults: Fields, own: tuple[bytes, ...]) -> tuple[Fields, bytes]:
    """The fields that come before a request's own, and its head up to there."""
    fields = ((b"Host", target.url.netloc), *[field for field in defaults if field[0].lower() not in own])
    lines = [b"%b %b HTTP/1.1" % (method.encode("ascii", "replace"), target.url.raw_path)]
    lines += [b"%b: %b" % field for field in fields]
    return fields, b"\r\n".join([*lines, b""])
