"""An HTTP server that answers named calls as a script says, and keeps a log of what it answered."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread

Script = Callable[[str, int], int | None]
"""(name of the call, how often it has come) → status; None: no answer, until the server is released."""


class Sink:
    """`log`: (idempotency key, status) of all answers, in order."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.log: list[tuple[str, int]] = []
        self.held: Counter[str] = Counter()
        self.released = Event()
        self.url = ""
        self._came: Counter[str] = Counter()
        self._lock = Lock()

    def decide(self, key: str) -> int | None:
        with self._lock:
            self._came[key] += 1
            status = self.script(key.partition(":")[2], self._came[key])
            if status is None:
                self.held[key] += 1
            return status

    def note(self, key: str, status: int) -> None:
        with self._lock:
            self.log.append((key, status))

    def delivered(self) -> Counter[str]:
        """How often each call was answered with success, by its idempotency key."""
        with self._lock:
            return Counter(key for key, status in self.log if status < 300)


@contextmanager
def scripted_sink(script: Script, *, retry_after_s: int = 0) -> Iterator[Sink]:
    sink = Sink(script)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            key = self.headers["Idempotency-Key"]
            status = sink.decide(key)
            if status is None:
                sink.released.wait(30)
                self.close_connection = True
                return
            body = json.dumps({"key": key}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if status == 503:
                self.send_header("Retry-After", str(retry_after_s))
            self.end_headers()
            sink.note(key, status)  # before the client can know
            self.wfile.write(body)

        def log_message(self, *args: object) -> None: ...

    class Server(ThreadingHTTPServer):
        request_queue_size = 1024

    with Server(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        sink.url = f"http://127.0.0.1:{server.server_port}/"
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield sink
        finally:
            sink.released.set()
            server.shutdown()
