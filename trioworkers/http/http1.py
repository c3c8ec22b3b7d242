"""One HTTP/1.1 connection over a Trio stream, one request at a time; its bytes are read by httptools (Node's llhttp, strict).

Answers that could be read in two ways end the connection with an error: two lengths, a length beside chunks, line ends that are not
CR LF, headers without end (RFC 9112 §6.3, §11). So do bytes that nobody asked for, but the answer before them counts. Requests are checked
likewise before a byte is sent.

A status that was read counts: what is wrong after it, in the headers or in the body, is raised when the body is read.
"""

from __future__ import annotations

import ssl
from typing import cast

import httptools
import httpx
import trio

from trioworkers.http.outgoing import announced_length, encode_head, measured, whole_body
from trioworkers.http.plain_request import PlainRequest
from trioworkers.http.reasons import reason
from trioworkers.http.tcp import READ_BYTES, TCPStream

MAX_OVERHEAD_BYTES = 100 * 1024
"""What may come in a row without a byte of body: headers, interim answers, trailers, chunk extensions. As much as httpx allows."""

INLINE_BYTES = 64 * 1024
"""Up to here a body goes out in one piece with its head."""

_NO_BODY = frozenset({204, 304})
OK = 200
"""Lower ones are interim: the answer is still to come."""

Headers = list[tuple[bytes, bytes]]
Timeouts = dict[str, float | None]


def _head(request: httpx.Request) -> tuple[bytes, int | None]:
    """What goes out before the body, and how long it says that is. Raises httpx.LocalProtocolError."""
    if isinstance(request, PlainRequest) and (plain := request.encode_head()) is not None:
        return plain, len(request.read())
    head = encode_head(request)
    return head, announced_length(request, head)


def _says_close(head: bytes) -> bool:
    """Whether a request says that it is the last one on its connection (RFC 9112 §9.6)."""
    lowered = head.lower()
    if b"close" not in lowered:
        return False
    return any(line.startswith(b"connection:") and b"close" in line for line in lowered.split(b"\r\n"))


class Connection:
    """An open connection. After any error or cancellation it is of no use any more: `is_reusable` is False."""

    def __init__(self, stream: TCPStream | trio.SSLStream[TCPStream], transport: TCPStream) -> None:
        self._stream = stream
        self._tls = stream if isinstance(stream, trio.SSLStream) else None
        self._transport = transport
        self._parser = httptools.HttpResponseParser(self)
        self._expects_body = True
        self._busy = False
        self._body_sent = True
        self._is_last = False
        self._trouble: httpx.TransportError | None = None
        self._begin()

    def _begin(self) -> None:
        self.status = 0
        self.reason = b""
        self.headers: Headers = []
        self.is_encoded = False
        self._chunks: list[bytes] = []
        self._overhead = 0
        self._head_done = self._done = self._broken = self._status_came = False
        self._fault: httpx.TransportError | None = None
        self._ends_with_connection = False
        self._keep_alive = False

    @property
    def is_reusable(self) -> bool:
        """Whether the answer was read to its end, and neither side closes the connection after it."""
        return not self._busy and not self._broken

    def has_died(self) -> bool:
        """Whether the server has closed this idle connection, or sent what nobody asked for."""
        return self._transport.has_news() or (self._tls is not None and self._tls.pending() > 0)

    async def send(self, request: httpx.Request, timeouts: Timeouts) -> None:
        """Send a request and read the answer's head. Raises httpx's TransportErrors, but not once there is a status: then `read` does.

        Cancelled: the connection is lost.
        """
        self._busy = True
        self._begin()
        head, announced = _head(request)
        self._is_last = _says_close(head)
        try:
            await self._exchange(request, head, announced, timeouts)
        except httpx.TransportError as error:
            if not self._status_came:
                raise
            self._cut_off(error)

    def _cut_off(self, error: httpx.TransportError) -> None:
        self.status = self._parser.get_status_code() if not self._head_done else self.status
        self._head_done = self._broken = True
        self._fault = error

    async def _exchange(self, request: httpx.Request, head: bytes, announced: int | None, timeouts: Timeouts) -> None:
        self._expects_body = request.method != "HEAD"
        self._transport.read_timeout_s, self._transport.write_timeout_s = None, timeouts.get("write")
        refused: Exception | None = None
        try:
            body = whole_body(request)
            if body is None or len(body) > INLINE_BYTES:
                await self._upload(request, head, announced)
            else:
                await self._stream.send_all(head + body)
        except trio.BrokenResourceError as error:  # it may have answered before it hung up
            refused = error
        except trio.TooSlowError as error:
            raise httpx.WriteTimeout(f"could not send for {timeouts['write']:g} s") from error
        self._transport.read_timeout_s = timeouts.get("read")
        while not self._head_done:
            if not await self._receive():
                why = "closed the connection without an answer" if refused is None else "hung up while we were sending"
                raise httpx.RemoteProtocolError(f"the server {why}") from refused
        if refused is not None:
            self._broken = True

    async def read(self) -> bytes:
        """Some more of the answer's body; b"" at its end. Raises httpx's TransportErrors. Cancelled: the connection is lost."""
        while not self._chunks and not self._done:
            if self._fault is not None:
                raise self._fault
            if not await self._receive():
                if not self._ends_with_connection:
                    raise httpx.RemoteProtocolError("the server closed the connection in the middle of its answer")
                self._done = True
        return self._take()

    def rest(self) -> bytes | None:
        """The body, if all of it has arrived; then nothing more is to be read."""
        return self._take() if self._done else None

    def _take(self) -> bytes:
        chunks, self._chunks = self._chunks, []
        self._busy = self._is_last or not (self._done and self._keep_alive)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def close(self) -> None:
        """Close at once; no TLS farewell."""
        self._broken = True
        self._transport.close()

    # ── bytes out ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _upload(self, request: httpx.Request, head: bytes, announced: int | None) -> None:
        """Send what takes a while, and listen meanwhile: a server that answers before the end isn't sent the rest."""
        raised: Exception | None = None
        self._body_sent, self._trouble = False, None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen, nursery.cancel_scope)
            try:
                await self._stream.send_all(head)
                await self._send_body(request, announced)
            except Exception as error:  # noqa: BLE001 - carried past the nursery, so that it comes out ungrouped
                raised = error
            nursery.cancel_scope.cancel()
        if self._head_done:
            self._fault = self._trouble
            self._broken = self._broken or not self._body_sent or self._fault is not None
        elif self._trouble is not None or raised is not None:
            raise self._trouble or raised

    async def _listen(self, sending: trio.CancelScope) -> None:
        try:
            while not self._head_done:
                if not await self._receive():
                    return  # it may have closed its side only; if not, sending will fail
        except httpx.TransportError as error:
            self._trouble = error
        sending.cancel()

    async def _send_body(self, request: httpx.Request, announced: int | None) -> None:
        chunks = measured(aiter(cast("httpx.AsyncByteStream", request.stream)), announced)
        try:
            async for chunk in chunks:
                await self._stream.send_all(chunk if announced is not None else b"%x\r\n%b\r\n" % (len(chunk), chunk))
        finally:
            await chunks.aclose()
        if announced is None:
            await self._stream.send_all(b"0\r\n\r\n")
        self._body_sent = True

    # ── bytes in ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _receive(self) -> bool:
        """Read some bytes into the parser; False at the end of the connection."""
        try:
            data = await self._stream.receive_some(READ_BYTES)
        except trio.TooSlowError as error:
            raise httpx.ReadTimeout(f"nothing came for {self._transport.read_timeout_s:g} s") from error
        except trio.BrokenResourceError as error:
            if not isinstance(error.__cause__, ssl.SSLEOFError):
                raise httpx.ReadError(reason(error) or "the connection broke") from error
            data = b""  # no TLS farewell; whether something is missing, the answer's own framing tells
        if not data:
            return False
        self._overhead += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if self._done:  # the answer was whole; what follows it is nobody's
                self._broken = True
                return True
            raise httpx.RemoteProtocolError(f"the server's answer is no HTTP that we understand: {error}") from error
        if self._overhead > MAX_OVERHEAD_BYTES and not self._done:
            raise httpx.RemoteProtocolError(f"the answer's headers are longer than {MAX_OVERHEAD_BYTES} bytes")
        return True

    # What httptools calls.

    def on_message_begin(self) -> None:
        """An answer begins; after the one that we asked for, it is one too many."""
        self._broken = self._broken or self._done

    def on_status(self, status: bytes) -> None:
        """The reason phrase, possibly in pieces."""
        self.reason += status
        if not self._status_came:
            self._status_came = self._parser.get_status_code() >= OK

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer, which we don't pass on."""
        if not self._head_done:
            self.headers.append((name, value))
            if not self._status_came:
                self._status_came = self._parser.get_status_code() >= OK

    def on_headers_complete(self) -> None:
        """The head is there; what ends the body follows from it."""
        status = self._parser.get_status_code()
        if status < OK or self._done:
            return
        self.status = status
        self._head_done = self._status_came = True
        names = {name.lower() for name, _ in self.headers}
        framed = b"content-length" in names or b"transfer-encoding" in names
        self.is_encoded = b"content-encoding" in names
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
            self._overhead = 0

    def on_message_complete(self) -> None:
        """An answer ends; after an interim one (1xx), ours is still to come."""
        if self._head_done:
            self._keep_alive = self._keep_alive or (not self._done and self._parser.should_keep_alive())
            self._done = True
        else:
            self.reason, self.headers = b"", []
