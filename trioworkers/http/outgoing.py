"""Checks a request on its way out: it must be readable in one way only, as one request, by whoever stands between us and the service.

A body of another length than its headers say is how requests are smuggled: the rest of it would be the next request on that connection,
or its beginning the end of ours (RFC 9112 §6.3, §11.2).
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator

import httpx

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_VALUE = rb"[\t\x20-\x7e\x80-\xff]*"
_HEAD = re.compile(_TOKEN + rb" [\x21-\x7e]+ HTTP/1\.1\r\n(?:" + _TOKEN + rb": " + _VALUE + rb"\r\n)*\r\n")
_FRAMING = re.compile(rb"\r\n(Host|Content-Length|Transfer-Encoding): ([^\r]*)", re.IGNORECASE)
_LENGTH = re.compile(rb"[0-9]{1,18}")
_HOST = re.compile(rb"[\x21-\x7e]*")


def encode_head(request: httpx.Request) -> bytes:
    """The request line and headers. Raises httpx.LocalProtocolError for what could be read as more than one request."""
    lines = [b"%b %b HTTP/1.1" % (request.method.encode("ascii", "replace"), request.url.raw_path)]
    lines += [b"%b: %b" % header for header in request.headers.raw]
    lines += (b"", b"")
    head = b"\r\n".join(lines)
    check_head(request, head, len(lines) - 3)
    return head


def check_head(request: httpx.Request, head: bytes, fields: int) -> None:
    """Raise httpx.LocalProtocolError if a head could be read as something else than one request with so many header fields."""
    if not _HEAD.fullmatch(head) or head.count(b"\n") != fields + 2:
        raise _refused(request, "its method, URL or headers contain what they must not")
    if request.url.port is not None and not 0 < request.url.port < 1 << 16:
        raise _refused(request, f"{request.url.port} is no port")
    if request.method == "CONNECT":
        raise _refused(request, "CONNECT makes a tunnel, which is no request")


def announced_length(request: httpx.Request, head: bytes) -> int | None:
    """How long the request with this head says that its body is; None: it comes in chunks.

    Raises httpx.LocalProtocolError if the body isn't sent so.
    """
    found = _FRAMING.findall(head)
    framing = {name.lower(): value for name, value in found}
    if not is_host(framing.pop(b"host", b"\0")):
        raise _refused(request, "it has one Host header, of visible characters")
    if len(found) > 1 + len(framing) or len(framing) > 1:
        raise _refused(
            request, "it says more than once where it goes or how long its body is (Host, Content-Length, …)"
        )
    body = whole_body(request)
    if b"content-length" in framing:
        return _length(request, framing[b"content-length"], body)
    if not framing and body != b"":
        raise _refused(request, "it has a body and doesn't say how long that is")
    if framing and (body is not None or framing[b"transfer-encoding"].strip().lower() != b"chunked"):
        raise _refused(request, "its body isn't sent as its Transfer-Encoding says; leave that header to us")
    return None if framing else 0


def is_host(text: bytes) -> bool:
    """Whether a Host header may say so."""
    return _HOST.fullmatch(text) is not None


def _length(request: httpx.Request, text: bytes, body: bytes | None) -> int:
    if not _LENGTH.fullmatch(text):
        raise _refused(request, "its Content-Length is no number of bytes")
    length = int(text)
    if body is not None and length != len(body):
        raise _mismatch(length, f"{len(body)}", request)
    return length


def whole_body(request: httpx.Request) -> bytes | None:
    """The body, if it is in memory."""
    return request.read() if isinstance(request.stream, httpx.ByteStream) else None


async def measured(stream: AsyncIterator[bytes], announced: int | None) -> AsyncGenerator[bytes]:
    """The pieces of a body that is `announced` bytes long. Raises httpx.LocalProtocolError before one too many is given, or at the end."""
    sent = 0
    try:
        async for chunk in stream:
            sent += len(chunk)
            if announced is not None and sent > announced:
                raise _mismatch(announced, "more")
            if chunk:
                yield chunk
    finally:  # a generator that isn't read to its end
        if isinstance(stream, AsyncGenerator):
            await stream.aclose()
    if announced is not None and sent < announced:
        raise _mismatch(announced, f"{sent}")


class Measured(httpx.AsyncByteStream):
    """A request's body for another transport, which sends it as it comes."""

    def __init__(self, inner: httpx.AsyncByteStream, announced: int | None) -> None:
        self._inner = inner
        self._announced = announced

    def __aiter__(self) -> AsyncIterator[bytes]:
        return measured(aiter(self._inner), self._announced)

    async def aclose(self) -> None:
        """Close the body."""
        await self._inner.aclose()


def _mismatch(announced: int, found: str, request: httpx.Request | None = None) -> httpx.LocalProtocolError:
    return httpx.LocalProtocolError(f"the request announces {announced} bytes and has {found}", request=request)


def _refused(request: httpx.Request, why: str) -> httpx.LocalProtocolError:
    return httpx.LocalProtocolError(f"the request is not sent: {why}", request=request)
