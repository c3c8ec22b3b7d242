"""The worker process as `dev` sees it: start it, tell it what to do, stop it. What runs in it is `worker.py`."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import socket
import subprocess
import sys
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

import attrs
import msgspec
import trio

from trioworkers.cli.dev.messages import Changed, Concerned, Given, Need, Order
from trioworkers.cli.dev.redises import Redises
from trioworkers.errors import TrioworkersError

logger = logging.getLogger("trioworkers.dev")

PATIENCE_S = 2.0
"""For an answer of the worker: a thread of its own gives it."""


@attrs.frozen
class Wishes:
    """What the command line said."""

    target: str
    redis: str | None
    watch: tuple[Path, ...]
    shutdown_timeout: float
    log_format: str
    log_level: str


class WorkerProcess:
    """One worker process and the socket to it."""

    def __init__(self, process: trio.Process, stream: trio.SocketStream, order: Order) -> None:
        self.process = process
        self._stream = stream
        self._order = order
        self._listens = False

    @classmethod
    async def start(cls, wishes: Wishes, *, was_there: bool) -> WorkerProcess:
        """Start one. `was_there`: see `Order`."""
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "trioworkers.cli.dev.child", str(theirs.fileno()), wishes.target]
            process = await trio.lowlevel.open_process(
                command,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},  # what handlers print is seen at once
            )
        order = Order(
            wishes.target,
            was_there,
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
                self._listens = True
        except trio.BrokenResourceError:
            pass  # it ended, and has said why

    async def concerned(self, paths: Collection[str]) -> str:
        """The first of the changed files that concerns it. While it can't be asked (it starts, it has ended), any may be the one."""
        if self._listens:
            with suppress(trio.BrokenResourceError), trio.move_on_after(PATIENCE_S):
                await self._stream.send_all(msgspec.json.encode(Changed(tuple(paths))) + b"\n")
                if line := await self._receive_line():
                    return msgspec.json.decode(line, type=Concerned).path
            self._listens = False  # a late answer would be taken for that to the next question
        return min(paths)

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
