"""What each of several processes counts, for whoever adds it up (`gathered`): told over a socket in their parent's directory; at the end a file takes its place.

From a thread of its own: while a job blocks the event loop, that is what there is to tell.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import msgspec

if TYPE_CHECKING:
    from trioworkers.observe.metrics import Metrics

PATIENCE_S = 2.0
SUFFIX = ".told"


@attrs.frozen
class Told:
    """One family of metrics of one process: its name, kind and meaning, and its samples: name, labels, value."""

    name: str
    kind: str
    about: str
    samples: list[tuple[str, list[tuple[str, str]], float]]


def encode(metrics: Metrics) -> bytes:
    """All of it, but for when each was made."""
    told = [
        Told(
            family.name,
            family.type,
            family.documentation,
            [
                (sample.name, sorted(sample.labels.items()), float(sample.value))
                for sample in family.samples
                if not sample.name.endswith("_created")
            ],
        )
        for family in metrics.registry.collect()
    ]
    return msgspec.msgpack.encode(told)


def decode(text: bytes) -> list[Told] | None:
    """None for what isn't whole."""
    try:
        return msgspec.msgpack.decode(text, type=list[Told])
    except (ValueError, RecursionError):
        return None


@contextmanager
def telling(directory: Path, name: str, metrics: Metrics) -> Iterator[None]:
    """Tell whoever connects, while the block runs; then what was counted in all is a file in the socket's place. Raises OSError."""
    # A name that never comes back: a process may be given the number of one that has ended.
    path = directory / f"{name}-{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.settimeout(None)  # whatever `socket.setdefaulttimeout` says: it may be long until somebody asks
        unheard = path.with_suffix(".new")
        listener.bind(str(unheard))
        listener.listen(16)
        unheard.rename(
            path
        )  # seen from now on: who can't connect to what is seen takes us for dead, and clears it away
        thread = threading.Thread(target=_tell, args=(listener, metrics), name="trioworkers-metrics", daemon=True)
        thread.start()
        try:
            yield
        finally:
            with suppress(OSError):  # the directory is gone with our parent: nobody wants to know
                unready = path.with_suffix(".tmp")
                unready.write_bytes(encode(metrics))
                # In one step: whoever looks finds the one or the other, and so counts neither twice nor not at all.
                unready.rename(path)
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join(PATIENCE_S)


def _tell(listener: socket.socket, metrics: Metrics) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:  # it is closed
            return
        with connection, suppress(OSError):
            connection.settimeout(PATIENCE_S)
            connection.sendall(encode(metrics))
