"""A TCP proxy between workers and Redis that can hold, lose, delay, freeze and reset what passes through it."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

RST = struct.pack("ii", 1, 0)


class Proxy:
    """Listens on `port`. What its attributes say holds for every connection; `freeze` only for those that are open then."""

    def __init__(self, target_port: int) -> None:
        self._target = ("127.0.0.1", target_port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.delay_s = 0.0
        self.drip = False
        self.bandwidth = 0.0
        """Bytes a second that all connections share in one direction; 0 for as many as there are."""
        self.only_requests = False
        """Whether only these are slowed down so: a line may carry less up than down."""
        self.breaks_after = 0
        """Each connection breaks when so many bytes have passed, in both directions together; 0 for never."""
        self.breaks_together = False
        """Whether that counts for all connections together, and all break then."""
        self.breaks = 0
        self._passed: Counter[frozenset[socket.socket]] = Counter()
        self._booked_until = {False: 0.0, True: 0.0}
        self._booking = threading.Lock()
        self.requests_pass = threading.Event()
        self.replies_pass = threading.Event()
        self.requests_pass.set()
        self.replies_pass.set()
        self.lose_replies = False
        self.instead = b""  # of the next reply
        self.refuse = False
        self.accepted = 0
        self.caught = threading.Event()
        self._trap: tuple[bytes, str] | None = None
        self._frozen: set[socket.socket] = set()
        self._open: set[socket.socket] = set()
        self._closing = False
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._closing = True
        self.go_on()
        self._listener.close()
        self.reset_all()

    def reset_all(self) -> None:
        """RST on every open connection, both sides."""
        for connection in list(self._open):
            with suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
                connection.shutdown(socket.SHUT_RDWR)
            with suppress(OSError):
                connection.close()
        self._open.clear()

    def freeze_open(self) -> None:
        """Nothing passes on the connections that are open now, and nobody is told; new ones work."""
        self._frozen |= self._open

    def lead_to(self, port: int) -> None:
        """From now on, lead to another server; open connections are reset."""
        self._target = ("127.0.0.1", port)
        self.reset_all()

    def stop_at(self, words: bytes, when: str) -> None:
        """Stand still when a request with these words comes by, before it is passed on or after; then `caught` is set."""
        self.caught.clear()
        self._trap = (words, when)

    def go_on(self) -> None:
        """Let pass what was held."""
        self.requests_pass.set()
        self.replies_pass.set()

    @contextmanager
    def losing_replies(self) -> Iterator[None]:
        """Replies are thrown away within the block, and the connections reset at its end."""
        self.lose_replies = True
        yield
        self.lose_replies = False
        self.reset_all()

    def _accept(self) -> None:
        while not self._closing:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            if self.bandwidth:  # what lies in buffers has not passed a slow line
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
            if self.refuse:
                client.close()
                continue
            try:
                server = socket.create_connection(self._target)
            except OSError:
                client.close()
                continue
            self._open |= {client, server}
            for source, sink, is_reply in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._pump, args=(source, sink, is_reply), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, is_reply: bool) -> None:
        has_lost = False
        try:
            while data := source.recv(65536):
                if not is_reply:
                    self._spring_trap(data)
                if not self._may_pass(source, sink, is_reply):
                    return
                if is_reply and (self.lose_replies or has_lost):
                    has_lost = True  # and goes on to: TCP loses an end, never a middle
                    continue
                if is_reply and self.instead:
                    data, self.instead = self.instead, b""
                for piece in [data[i : i + 1] for i in range(len(data))] if self.drip else [data]:
                    self._wait_for_the_line(len(piece), is_reply)
                    self._break_if_it_should(frozenset((source, sink)), len(piece))
                    sink.sendall(piece)
        except OSError:
            pass
        finally:
            if source not in self._frozen:
                self._close(source, sink)

    def _close(self, *connections: socket.socket) -> None:
        for connection in connections:
            # Closed alone it would stay open, and silent, as long as the other pump waits for it.
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            with suppress(OSError):
                connection.close()
        self._open -= {*connections}

    def _wait_for_the_line(self, size: int, is_reply: bool) -> None:
        if not self.bandwidth or (is_reply and self.only_requests):
            return
        with self._booking:
            start = max(time.monotonic(), self._booked_until[is_reply])
            self._booked_until[is_reply] = free_at = start + size / self.bandwidth
        time.sleep(max(0.0, free_at - time.monotonic()))

    def _break_if_it_should(self, connection: frozenset[socket.socket], size: int) -> None:
        if not self.breaks_after:
            return
        counted = frozenset() if self.breaks_together else connection
        self._passed[counted] += size
        if self._passed[counted] > self.breaks_after:
            self.breaks += 1
            if self.breaks_together:
                self._passed[counted] = 0
                self.reset_all()
            raise OSError("broken")

    def _spring_trap(self, request: bytes) -> None:
        if self._trap and self._trap[0] in request:
            (self.requests_pass if self._trap[1] == "before" else self.replies_pass).clear()
            self._trap = None
            self.caught.set()

    def _may_pass(self, source: socket.socket, sink: socket.socket, is_reply: bool) -> bool:
        """Wait as long as the proxy's attributes say; False if it is closing."""
        (self.replies_pass if is_reply else self.requests_pass).wait()
        time.sleep(self.delay_s)
        while not self._closing and (source in self._frozen or sink in self._frozen):
            time.sleep(0.05)
        return not self._closing
