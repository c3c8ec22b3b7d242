"""A line to a server that carries so many bytes a second each way, however many connections share it: it holds the server back and costs hardly any CPU."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

CHUNK = 1 << 16


@contextmanager
def slow_line(port: int, bytes_a_second: float) -> Iterator[str]:
    """The URL of that server behind such a line, for as long as the block lasts."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        line = _Line(port, bytes_a_second)
        threading.Thread(target=line.accept, args=[listener], daemon=True).start()
        try:
            yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
        finally:
            listener.shutdown(socket.SHUT_RDWR)  # closed alone it would stay in the accept of that thread


class _Line:
    """All connections through it; a thread for each direction of each."""

    def __init__(self, port: int, bytes_a_second: float) -> None:
        self._port = port
        self._bytes_a_second = bytes_a_second
        self._booking = threading.Lock()
        self._booked_until = {"there": 0.0, "back": 0.0}

    def accept(self, listener: socket.socket) -> None:
        """Until the listener is shut down."""
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._port))
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for source, sink, way in ((client, server, "there"), (server, client, "back")):
                threading.Thread(target=self._pump, args=[source, sink, way], daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, way: str) -> None:
        with suppress(OSError):  # an end has gone
            while data := source.recv(CHUNK):
                time.sleep(max(0.0, self._book(len(data), way) - time.monotonic()))
                sink.sendall(data)
        for end in (source, sink):  # the other direction ends, too
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _book(self, size: int, way: str) -> float:
        """When these bytes, behind all that others have booked, are over."""
        with self._booking:
            self._booked_until[way] = max(time.monotonic(), self._booked_until[way]) + size / self._bytes_a_second
            return self._booked_until[way]
