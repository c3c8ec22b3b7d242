"""`--health`: a port that answers probes. /live: does it get on; /ready: does it fetch; /drained: is nothing left to do.

From a thread of its own, so that it answers while a job blocks the event loop: that is what it is to tell. It reads no more than a request's
first bytes, gives each connection two seconds, and serves so many at once.
"""

from __future__ import annotations

import errno
import re
import selectors
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic, sleep

import attrs

from trioworkers.errors import ConfigurationError
from trioworkers.health import Health, Pulse, health_of

MAX_REQUEST = 4096
MAX_CONNECTIONS = 64
PATIENCE_S = 2.0
PAUSE_S = 0.1
_SHORT = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:\s]*)):(\d{1,5})")


class Told:
    """The health of one worker, from its pulses. `tell` and `health` may be called from any thread."""

    def __init__(self) -> None:
        self._pulse = Pulse()
        self._told_at: float | None = None

    def tell(self, pulse: Pulse) -> None:
        """What it says just now."""
        self._pulse, self._told_at = pulse, monotonic()

    def health(self) -> Health:
        """As of now. A worker that still starts is alive, and not ready."""
        if self._told_at is None:
            return Health(live=True, ready=False, drained=False, text="starting")
        return health_of(self._pulse, monotonic() - self._told_at)


def read_address(text: str) -> tuple[str, int]:
    """HOST:PORT, [HOST]:PORT or :PORT, which is every address of this machine. Raises ConfigurationError."""
    found = _ADDRESS.fullmatch(text.strip())
    if found is None or int(found[3]) > 65535:
        raise ConfigurationError(f"--health is HOST:PORT or :PORT, not {text!r:.100}")
    return found[1] or found[2] or "", int(found[3])


@contextmanager
def serving_health(address: str, health: Callable[[], Health]) -> Iterator[int]:
    """Answer probes while the block runs; yields the port. Raises ConfigurationError if the address can't be had."""
    host, port = read_address(address)
    try:
        listener = _listen(host, port)
    except OSError as error:
        raise ConfigurationError(f"--health: {address} can't be used: {error.strerror or error}") from error
    server = _Server(listener, health)
    thread = threading.Thread(target=server.run, name="trioworkers-health", daemon=True)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        server.stop()
        thread.join(PATIENCE_S)


def _listen(host: str, port: int) -> socket.socket:
    # A machine may have addresses of one kind only, and be probed at either.
    if not host and socket.has_dualstack_ipv6():
        try:
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):  # IPv6 is turned off here
                raise
    family = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    return socket.create_server(family[4][:2], family=family[0])


@attrs.define
class _Client:
    until: float
    data: bytes = b""


class _Server:
    def __init__(self, listener: socket.socket, health: Callable[[], Health]) -> None:
        self._listener = listener
        self._health = health
        self._selector = selectors.DefaultSelector()
        self._clients: dict[socket.socket, _Client] = {}
        self._ours, self._theirs = socket.socketpair()
        listener.setblocking(False)  # noqa: FBT003 - the socket's own interface
        self._selector.register(listener, selectors.EVENT_READ)
        self._selector.register(self._theirs, selectors.EVENT_READ)

    def stop(self) -> None:
        """Have `run` return."""
        self._ours.close()

    def run(self) -> None:
        """Until stopped."""
        try:
            while True:
                for key, _ in self._selector.select(1.0 if self._clients else None):
                    if key.fileobj is self._theirs:
                        return
                    if key.fileobj is self._listener:
                        self._accept()
                    elif isinstance(key.fileobj, socket.socket):
                        self._read(key.fileobj)
                now = monotonic()
                for connection in [each for each, client in self._clients.items() if client.until < now]:
                    self._drop(connection)
        finally:
            for connection in (*self._clients, self._listener, self._theirs):
                connection.close()
            self._selector.close()

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError as error:  # who called has gone again, or we have no descriptor to spare: a probe comes again
            if error.errno in _SHORT:  # who called still waits, so the selector would come back at once, for ever
                sleep(PAUSE_S)
            return
        if len(self._clients) >= MAX_CONNECTIONS:
            self._drop(next(iter(self._clients)))
        connection.settimeout(0)
        self._clients[connection] = _Client(monotonic() + PATIENCE_S)
        self._selector.register(connection, selectors.EVENT_READ)

    def _read(self, connection: socket.socket) -> None:
        client = self._clients.get(connection)
        if client is None:  # dropped to make room, in this same round
            return
        try:
            data = connection.recv(MAX_REQUEST)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        client.data += data
        if not data or len(client.data) >= MAX_REQUEST or b"\r\n\r\n" in client.data or b"\n\n" in client.data:
            with suppress(OSError):  # an answer fits into any socket's buffer; who doesn't take it has gone
                connection.send(answer(client.data, self._health()) if client.data else b"")
            self._drop(connection)

    def _drop(self, connection: socket.socket) -> None:
        del self._clients[connection]
        self._selector.unregister(connection)
        connection.close()


def answer(request: bytes, health: Health) -> bytes:
    """The response to a request, of which only the first line is read."""
    method, _, rest = request.partition(b"\n")[0].partition(b" ")
    path = rest.partition(b" ")[0].partition(b"?")[0]
    known = {b"/live": health.live, b"/ready": health.ready, b"/drained": health.drained}
    if method not in (b"GET", b"HEAD"):
        return _response("405 Method Not Allowed", "GET or HEAD", with_body=True)
    if path not in known:
        return _response("404 Not Found", "/live, /ready or /drained", with_body=method == b"GET")
    status = "200 OK" if known[path] else "503 Service Unavailable"
    return _response(status, health.text, with_body=method == b"GET")


def _response(status: str, text: str, *, with_body: bool) -> bytes:
    body = f"{text}\n".encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Cache-Control: no-store\r\nConnection: close\r\n\r\n".encode() + (body if with_body else b"")
