"""One HTTP/1.1 connection over a Trio stream, one request at a time; its bytes are read by httptools (Node's llhttp, strict).

Answers that could be read in two ways end the connection with an error: two lengths, a length beside chunks, line ends that are not
CR LF, bytes that nobody asked for, headers without end (RFC 9112 §6.3, §11). Requests are checked likewise before a byte is sent.
"""

from __future__ import annotations

import re
import select
import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import cast

import httptools
import httpx
import trio

MAX_HEAD_BYTES = 64 * 1024
READ_BYTES = 64 * 1024
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NO_BODY = frozenset({204, 304})

Headers = list[tuple[bytes, bytes]]
Timeouts = dict[str, float | None]


class Connection:
    """An open connection. After any error or cancellation it is of no use any more: `is_reusable` is False."""

    def __init__(
        self, stream: trio.SocketStream | trio.SSLStream[trio.SocketStream], transport: trio.SocketStream
    ) -> None:
        self._stream = stream
        self._readable = select.poll()
        self._readable.register(transport.socket.fileno(), select.POLLIN)
        self._parser = httptools.HttpResponseParser(self)
        self._expects_body = True
        self._busy = False
        self._begin()

    def _begin(self) -> None:
        self.status = 0
        self.reason = b""
        self.headers: Headers = []
        self._chunks: list[bytes] = []
        self._head_bytes = 0
        self._head_done = self._done = self._broken = False
        self._ends_with_connection = False
        self._keep_alive = False

    @property
    def is_reusable(self) -> bool:
        """Whether the answer was read to its end and the server keeps the connection."""
        return not self._busy and not self._broken

    def has_died(self) -> bool:
        """Whether the server has closed this idle connection, or sent what nobody asked for."""
        return bool(self._readable.poll(0))

    async def send(self, request: httpx.Request, timeouts: Timeouts) -> None:
        """Send a request and read the answer's head. Raises httpx's TransportErrors. Cancelled: the connection is lost."""
        self._busy = True
        self._begin()
        head = encode_head(request)
        self._expects_body = request.method != "HEAD"
        refused: trio.BrokenResourceError | None = None
        try:
            with _limit(timeouts.get("write"), httpx.WriteTimeout):
                await self._send_all(request, head)
        except trio.BrokenResourceError as error:  # it may have answered before it hung up
            refused = error
        while not self._head_done:
            if not await self._receive(timeouts):
                why = "closed the connection without an answer" if refused is None else "hung up while we were sending"
                raise httpx.RemoteProtocolError(f"the server {why}") from refused
        if refused is not None:
            self._broken = True

    async def read(self, timeouts: Timeouts) -> bytes:
        """Some more of the answer's body; b"" at its end. Raises httpx's TransportErrors. Cancelled: the connection is lost."""
        while not self._chunks and not self._done:
            if not await self._receive(timeouts):
                if not self._ends_with_connection:
                    raise httpx.RemoteProtocolError("the server closed the connection in the middle of its answer")
                self._done = True
        chunks, self._chunks = self._chunks, []
        self._busy = not (self._done and self._keep_alive)
        return b"".join(chunks)

    async def aclose(self) -> None:
        """Close at once; no TLS farewell."""
        self._broken = True
        stream = self._stream
        await trio.aclose_forcefully(stream.transport_stream if isinstance(stream, trio.SSLStream) else stream)

    # ── bytes out ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _send_all(self, request: httpx.Request, head: bytes) -> None:
        try:
            content = request.content
        except httpx.RequestNotRead:
            await self._stream.send_all(head)
            await self._send_stream(request)
        else:
            await self._stream.send_all(head + content)

    async def _send_stream(self, request: httpx.Request) -> None:
        announced = request.headers.get("content-length")
        sent = 0
        async for chunk in cast("httpx.AsyncByteStream", request.stream):
            if chunk:
                sent += len(chunk)
                await self._stream.send_all(chunk if announced else b"%x\r\n%b\r\n" % (len(chunk), chunk))
        if announced is None:
            await self._stream.send_all(b"0\r\n\r\n")
        elif sent != int(announced):
            raise httpx.LocalProtocolError(f"the request announced {announced} bytes and has {sent}")

    # ── bytes in ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _receive(self, timeouts: Timeouts) -> bool:
        """Read some bytes into the parser; False at the end of the connection."""
        with _limit(timeouts.get("read"), httpx.ReadTimeout):
            try:
                data = await self._stream.receive_some(READ_BYTES)
            except trio.BrokenResourceError as error:
                if isinstance(error.__cause__, ssl.SSLEOFError):
                    data = b""  # no TLS farewell; whether something is missing, the answer's own framing tells
                else:
                    raise httpx.ReadError(str(error.__cause__ or error)) from error
        if not data:
            return False
        if not self._head_done:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            raise httpx.RemoteProtocolError(f"the server's answer is no HTTP that we understand: {error}") from error
        if self._head_bytes > MAX_HEAD_BYTES and not self._head_done:
            raise httpx.RemoteProtocolError(f"the answer's headers are longer than {MAX_HEAD_BYTES} bytes")
        return True

    # What httptools calls.

    def on_message_begin(self) -> None:
        """An answer begins; after the one that we asked for, it is one too many."""
        self._broken = self._broken or self._done

    def on_status(self, status: bytes) -> None:
        """The reason phrase, possibly in pieces."""
        self.reason += status

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer, which we don't pass on."""
        if not self._head_done:
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is there; what ends the body follows from it."""
        status = self._parser.get_status_code()
        if status < 200 or self._done:
            return
        self.status = status
        self._head_done = True
        names = {name.lower() for name, _ in self.headers}
        framed = b"content-length" in names or b"transfer-encoding" in names
        self._ends_with_connection = not framed and status not in _NO_BODY and self._expects_body
        if not self._expects_body:
            self._done = True
            self._keep_alive = self._parser.should_keep_alive()
            self._parser = httptools.HttpResponseParser(self)  # the old one waits for the body that HEAD doesn't have

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        if self._done:
            self._broken = True
        else:
            self._chunks.append(body)

    def on_message_complete(self) -> None:
        """An answer ends; after an interim one (1xx), ours is still to come."""
        if self._head_done:
            self._keep_alive = self._keep_alive or (not self._done and self._parser.should_keep_alive())
            self._done = True
        else:
            self.reason, self.headers = b"", []


def encode_head(request: httpx.Request) -> bytes:
    """The request line and headers. Raises httpx.LocalProtocolError for what could be read as more than one request."""
    lines = [b"%b %b HTTP/1.1" % (request.method.encode("ascii", "replace"), request.url.raw_path)]
    lines += [b"%b: %b" % header for header in request.headers.raw]
    lines += (b"", b"")
    head = b"\r\n".join(lines)
    breaks = len(lines) - 1
    if head.count(b"\n") != breaks or head.count(b"\r") != breaks or b"\0" in head or not _are_tokens(request):
        raise httpx.LocalProtocolError(
            "the request's method, URL or headers contain what they must not", request=request
        )
    return head


def _are_tokens(request: httpx.Request) -> bool:
    names: Iterable[bytes] = (name for name, _ in request.headers.raw)
    return (
        all(_TOKEN.fullmatch(name) for name in (request.method.encode(), *names)) and b" " not in request.url.raw_path
    )


@contextmanager
def _limit(seconds: float | None, error: type[httpx.TimeoutException]) -> Iterator[None]:
    with trio.CancelScope() as scope:
        if seconds is not None:
            scope.deadline = trio.current_time() + seconds
        yield
    if scope.cancelled_caught:
        raise error(f"nothing within {seconds:g} s")
