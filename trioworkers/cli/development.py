"""What `trioworkers dev` does: a Redis, a worker process beside it, and a new one whenever the code changes.

    dev ── note         says where our Redis is, locked while we live (cli/place.py)
     ├── servers        opened when the worker's App first asks for one, kept over its restarts
     ├── watcher        a thread; changes of Python files
     └── worker         cli/dev_worker.py, in a session of its own, so that Ctrl-C is for us to handle

The worker talks to us over a socket: it loads the App, says which Redis that wants, and is told which one it gets. When the
socket closes, however we end, the worker stops; and the embedded server ends with its pipe to us. So nothing is left behind.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import attrs
import msgspec
import trio

from trioworkers.broker.server import greeting_at, open_server
from trioworkers.cli.place import FOLDER, NoteKeeper, keeping_note, private_folder
from trioworkers.cli.watcher import watching
from trioworkers.engine.serve import ungrouped
from trioworkers.errors import TrioworkersError
from trioworkers.settings import DEFAULT_URL, shown_url

logger = logging.getLogger("trioworkers.dev")

PATIENCE_S = 3.0
"""After its deadline a worker has that long to end; it never takes so long (P3), but it runs the user's code."""


@attrs.frozen
class Wishes:
    """What the command line said."""

    target: str
    redis: str | None
    watch: tuple[Path, ...]
    shutdown_timeout: float
    log_format: str
    log_level: str


@attrs.frozen
class Order:
    """What the worker is told first. `process_id`: where the App names none; always the same here, so that jobs come back at once."""

    target: str
    redis: str | None
    process_id: str
    shutdown_timeout: float
    log_format: str
    log_level: str


@attrs.frozen
class Need:
    """What the worker answers: the Redis that its App or the environment names, if any, and its namespace."""

    redis: str | None
    namespace: str


@attrs.frozen
class Given:
    """The Redis that it gets; or why there is none."""

    url: str = ""
    problem: str = ""


def develop(wishes: Wishes) -> None:
    """Run until stopped by a signal. Raises ConfigurationError if another `dev` runs here."""
    with ungrouped(), keeping_note(Path.cwd()) as note:
        trio.run(_develop, wishes, note)


async def _develop(wishes: Wishes, note: NoteKeeper) -> None:
    # Signals are heard here as in run.py: this process has no worker in it that could be in their way.
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        async with trio.open_nursery() as nursery:
            async with AsyncExitStack() as servers:
                session = _Session(wishes, Redises(servers, note))
                nursery.start_soon(_obey, signals, session)
                await session.run()
            nursery.cancel_scope.cancel()


async def _obey(signals: AsyncIterator[int], session: _Session) -> None:
    async for _ in signals:
        session.stop()


class Redises:
    """The Redis for each wish; embedded ones run until the end."""

    def __init__(self, servers: AsyncExitStack, note: NoteKeeper) -> None:
        self._servers = servers
        self._note = note
        self._urls: dict[str | None, str] = {}

    async def give(self, need: Need) -> str:
        """The URL for a worker's need; noted for the other commands. Raises ConfigurationError."""
        if need.redis not in self._urls:
            wanted = await self._choose() if need.redis is None else need.redis
            self._urls[need.redis] = await self._servers.enter_async_context(open_server(wanted))
            if need.redis is not None:
                logger.info("Redis: %s", shown_url(need.redis))
        url = self._urls[need.redis]
        self._note.write(url, need.namespace)
        return url

    async def _choose(self) -> str:
        greeting = await greeting_at(DEFAULT_URL)
        if greeting == "PONG":
            logger.info("Redis: the one at %s", DEFAULT_URL)
            return DEFAULT_URL
        why = f"the one at {DEFAULT_URL} says {greeting}" if greeting else f"none at {DEFAULT_URL}"
        home = private_folder(Path.cwd()) / "redis"
        logger.info("Redis: our own, its data is in %s/redis (%s)", FOLDER, why)
        return f"embedded:{home}"


class _Session:
    """Worker after worker, until told to stop."""

    def __init__(self, wishes: Wishes, redises: Redises) -> None:
        self._wishes = wishes
        self._redises = redises
        self._scope = trio.CancelScope()
        self._worker: WorkerProcess | None = None

    def stop(self) -> None:
        """Stop soon; called again: at once."""
        if self._scope.cancel_called and self._worker is not None:
            self._worker.terminate()
        self._scope.cancel()

    async def run(self) -> None:
        """Start, wait for a change, restart."""
        wishes = self._wishes
        folders = [Path.cwd(), *wishes.watch]
        if (path := Path(wishes.target)).suffix == ".py" and path.parent.is_dir():
            folders.append(path.parent)
        with self._scope:
            async with watching(folders) as changes:
                while True:
                    changes.forget()  # whatever came before, the next worker reads it
                    async with self._running() as worker:
                        async with trio.open_nursery() as nursery:
                            nursery.start_soon(worker.serve, self._redises)
                            nursery.start_soon(self._mourn, worker)
                            changed = await changes.wait()
                            nursery.cancel_scope.cancel()
                        logger.info("%s changed: restarting", changed)

    async def _mourn(self, worker: WorkerProcess) -> None:
        status = await worker.process.wait()
        logger.warning("the worker ended with status %d; it starts again when a Python file changes", status)

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[WorkerProcess]:
        with trio.CancelScope(shield=True):  # or a stop could leave one that nobody knows of
            self._worker = worker = await WorkerProcess.start(self._wishes)
        try:
            yield worker
        finally:
            with trio.CancelScope(shield=True):
                await worker.stop(self._wishes.shutdown_timeout + PATIENCE_S)


class WorkerProcess:
    """One worker process and the socket to it."""

    def __init__(self, process: trio.Process, stream: trio.SocketStream, order: Order) -> None:
        self.process = process
        self._stream = stream
        self._order = order

    @classmethod
    async def start(cls, wishes: Wishes) -> WorkerProcess:
        """Start one."""
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "trioworkers.cli.dev_worker", str(theirs.fileno()), wishes.target]
            process = await trio.lowlevel.open_process(
                command,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},  # what handlers print is seen at once
            )
        order = Order(
            wishes.target,
            wishes.redis,
            _process_id(),
            wishes.shutdown_timeout,
            wishes.log_format,
            wishes.log_level,
        )
        return cls(process, trio.SocketStream(trio.socket.from_stdlib_socket(ours)), order)

    async def serve(self, redises: Redises) -> None:
        """Tell it what to do, give it its Redis; then listen until it ends."""
        try:
            await self._stream.send_all(msgspec.json.encode(self._order) + b"\n")
            line = await self._receive_line()
            if line:
                await self._stream.send_all(msgspec.json.encode(await _given(redises, line)) + b"\n")
        except trio.BrokenResourceError:
            pass  # it ended, and has said why

    async def _receive_line(self) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            part = await self._stream.receive_some(65536)
            if not part:
                return b""
            line += part
        return line

    def terminate(self) -> None:
        """Ask it to stop."""
        if self.process.returncode is None:
            self.process.terminate()

    async def stop(self, patience_s: float) -> None:
        """Stop it, and wait until it is gone."""
        self.terminate()
        with trio.move_on_after(patience_s):
            await self.process.wait()
        if self.process.returncode is None:
            logger.error("the worker does not end: killed")
            self.process.kill()
            await self.process.wait()
        await self._stream.aclose()


async def _given(redises: Redises, line: bytes) -> Given:
    try:
        return Given(await redises.give(msgspec.json.decode(line, type=Need)))
    except TrioworkersError as error:
        return Given(problem=str(error))


def _process_id() -> str:
    """One for each directory on each machine: nobody else's, and the same after a crash."""
    folder = hashlib.sha256(str(Path.cwd()).encode()).hexdigest()[:8]
    host = re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname())[:100]
    return f"dev-{host}-{folder}"
