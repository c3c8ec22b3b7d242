"""The worker process of `trioworkers dev`, started by `worker_process.py`. `python -m trioworkers.cli.dev.worker FD TARGET`."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from contextlib import suppress
from typing import TypeVar, cast

import msgspec

from trioworkers.cli.dev.messages import Given, Need, Order
from trioworkers.cli.loader import load_app
from trioworkers.cli.logs import Format, configure_logging
from trioworkers.errors import ConfigurationError, TrioworkersError

T = TypeVar("T")


def main(fd: int) -> None:
    """Load the App, ask for its Redis, work until told to stop or until nobody is there to tell us."""
    with socket.socket(fileno=fd) as link:
        order = _read(link, Order)
        configure_logging(cast(Format, order.log_format), order.log_level)
        app = load_app(order.target)
        app.configure(redis_url=order.redis, shutdown_timeout=order.shutdown_timeout)
        if app.settings.process_id is None:
            app.configure(process_id=order.process_id)
        app.check()
        link.sendall(msgspec.json.encode(Need(app.redis_named, app.settings.namespace)) + b"\n")
        given = _read(link, Given)
        if given.problem:
            raise ConfigurationError(given.problem)
        app.configure(redis_url=given.url)
        threading.Thread(target=_end_with, args=(link,), name="trioworkers-dev", daemon=True).start()
        app.run()


def _read(link: socket.socket, kind: type[T]) -> T:
    line = b""
    while not line.endswith(b"\n"):
        part = link.recv(65536)
        if not part:
            sys.exit(0)  # `dev` is gone
        line += part
    return msgspec.json.decode(line, type=kind)


def _end_with(link: socket.socket) -> None:
    with suppress(OSError):
        link.recv(1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]))
    except TrioworkersError as error:
        print(f"trioworkers: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(1)
