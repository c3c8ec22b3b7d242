"""The worker process of `trioworkers dev`, started by `worker_process.py`. `python -m trioworkers.cli.dev.child FD TARGET`."""

from __future__ import annotations

import io
import os
import signal
import socket
import sys
import threading
from contextlib import suppress
from typing import TypeVar, cast

import msgspec

from trioworkers.app import App
from trioworkers.cli.dev.messages import GIVE_UP, Changed, Concerned, Given, Need, Order
from trioworkers.cli.dev.own_files import OwnFiles
from trioworkers.cli.loader import load_app
from trioworkers.cli.usage import check_environment
from trioworkers.errors import BrokerError, NotFound, SharedQueue, TrioworkersError, Unavailable, WrongUsage
from trioworkers.printable import on_lines
from trioworkers.process.logs import Format, configure_logging, ensure_logging, flush_logs
from trioworkers.process.signals import hearing

T = TypeVar("T")


def main(fd: int) -> int:
    """Load the App, ask for its Redis, work until told to stop or until nobody is there to tell us. Returns the exit status.

    What ends it is said on stderr. To that of which no change of the code would be the end, the status adds GIVE_UP.
    """
    # Seen at once, but a line as a whole: unbuffered, `print` writes its parts one by one, and lines of the log fall between them.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True, write_through=False)
    with hearing(), socket.socket(fileno=fd) as link:
        order = _read(link, Order)
        configure_logging(cast(Format, order.log_format), order.log_level)
        try:
            app = load_app(order.target)
            ensure_logging()
            code_names_redis = order.redis is None and app.redis_named not in (None, os.environ.get("REDIS_URL"))
        except TrioworkersError as error:
            return _told(error, code_helps=order.was_there or not isinstance(error, NotFound | WrongUsage))
        try:
            _work(app, order, link)
        except TrioworkersError as error:
            beyond = isinstance(error, WrongUsage) or (_is_of_redis(error) and not code_names_redis)
            return _told(error, code_helps=not beyond)
    return 0


def _work(app: App, order: Order, link: socket.socket) -> None:
    app.configure(redis_url=order.redis, shutdown_timeout=order.shutdown_timeout)
    check_environment(app)
    if app.settings.process_id is None:
        app.configure(process_id=order.process_id)
    app.check()
    link.sendall(msgspec.json.encode(Need(app.redis_named, app.settings.namespace)) + b"\n")
    given = _read(link, Given)
    if given.problem:
        raise Unavailable(given.problem)
    app.configure(redis_url=given.url)
    threading.Thread(target=_attend, args=(link, OwnFiles()), name="trioworkers-dev", daemon=True).start()
    app.run()


def _is_of_redis(error: TrioworkersError) -> bool:
    """Whether the trouble is with Redis or who else is there; but a strict App may be made less so."""
    return isinstance(error, BrokerError) and not isinstance(error, SharedQueue)


def _told(error: TrioworkersError, *, code_helps: bool) -> int:
    flush_logs()
    print(f"trioworkers: {on_lines(str(error))}", file=sys.stderr)  # noqa: T201
    return (2 if isinstance(error, WrongUsage) else 1) + (0 if code_helps else GIVE_UP)


def _read(link: socket.socket, kind: type[T]) -> T:
    line = _line(link)
    if not line:
        sys.exit(0)  # `dev` is gone
    return msgspec.json.decode(line, type=kind)


def _line(link: socket.socket) -> bytes:
    """What comes next; b"" if that is the end."""
    line = b""
    while not line.endswith(b"\n"):
        part = link.recv(65536)
        if not part:
            return b""
        line += part
    return line


def _attend(link: socket.socket, own: OwnFiles) -> None:
    """Answer `dev` while it is there, in a thread: jobs may block the event loop. Then stop the worker."""
    with suppress(OSError):
        while line := _line(link):
            changed = msgspec.json.decode(line, type=Changed)
            link.sendall(msgspec.json.encode(Concerned(own.concerned(changed.paths))) + b"\n")
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
