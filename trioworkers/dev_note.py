"""The note by which commands and clients find the Redis of a running `trioworkers dev`.

`dev` keeps `.trioworkers/dev.json` in the directory that it runs in, locked for as long as it lives: who gets the lock knows
that the note is stale, however its writer ended. Commands and clients look for it in their directory and those above. `run` does not.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import attrs
import msgspec

from trioworkers.errors import ConfigurationError

FOLDER = ".trioworkers"
NOTE = "dev.json"


@attrs.frozen
class Note:
    """What a running `dev` says of itself."""

    pid: int
    url: str = ""
    namespace: str = ""


def find_note(start: Path) -> Note | None:
    """The note of a living `dev` in `start` or the nearest directory above that has one."""
    for folder in (start, *start.parents):
        note = _read(folder / FOLDER / NOTE)
        if note is not None:
            return note
    return None


def _read(path: Path) -> Note | None:
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_uid != os.getuid():
                return None  # in a directory like /tmp anybody may write one
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return msgspec.json.decode(file.read(), type=Note)
    except (OSError, msgspec.DecodeError):
        pass
    return None


class NoteKeeper:
    """The note of this process; see `keeping_note`."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, url: str = "", namespace: str = "") -> None:
        """Say where our Redis is."""
        self._file.seek(0)
        self._file.truncate()
        self._file.write(msgspec.json.encode(Note(os.getpid(), url, namespace)))
        self._file.flush()


@contextmanager
def keeping_note(folder: Path) -> Iterator[NoteKeeper]:
    """Keep a note in `folder`/.trioworkers while the block runs. Raises ConfigurationError if another `dev` does."""
    home = private_folder(folder)
    path = home / NOTE
    with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:  # noqa: PTH123 - pathlib gives no mode
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = _read(path)
            who = f" (pid {other.pid})" if other else ""
            raise ConfigurationError(f"a `trioworkers dev` runs in {folder} already{who}") from None
        keeper = NoteKeeper(file)
        keeper.write()
        try:
            yield keeper
        finally:
            file.truncate(0)


def private_folder(folder: Path) -> Path:
    """`folder`/.trioworkers, made if need be, and kept out of git by a file of its own."""
    home = folder / FOLDER
    try:
        home.mkdir(mode=0o700, exist_ok=True)
        with suppress(FileExistsError), (home / ".gitignore").open("x") as ignore:
            ignore.write("*\n")
    except OSError as error:
        raise ConfigurationError(f"{home}: {error.strerror}") from error
    return home
