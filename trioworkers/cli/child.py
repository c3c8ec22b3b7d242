"""One worker of `trioworkers run --processes`, started by `processes.py`. `python -m trioworkers.cli.child TARGET FD`."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import attrs
import msgspec

from trioworkers.cli import last_status
from trioworkers.cli.served_queues import Only, narrow
from trioworkers.errors import ConfigurationError, TrioworkersError, WrongUsage
from trioworkers.printable import on_lines
from trioworkers.process.collector import hurried_collector
from trioworkers.process.ending import ending
from trioworkers.process.log_formats import share_log
from trioworkers.process.logs import Format, configure_logging, ensure_logging, flush_logs
from trioworkers.process.parent import Parent
from trioworkers.process.run import run
from trioworkers.process.signals import hearing

if TYPE_CHECKING:
    from trioworkers.app import App

INTERRUPTED = 130


@attrs.frozen
class Order:
    """What the parent tells it first. `base`: of the process ids, where neither App nor environment names one. `suffix`: of this one's.

    `log_turn`: see `process/log_turn.py`. `metrics`: the directory in which it tells what it counts; None: nobody wants to know.
    """

    target: str
    redis: str | None
    base: str
    suffix: str
    options: dict[str, Any]
    only: Only | None
    log_format: str
    log_level: str
    log_name: str
    log_turn: int | None = None
    metrics: str | None = None


def main(fd: int) -> int:
    """Work until told to stop, or until nobody is there to tell us. Returns the exit status; what ends it is said on stderr."""
    with socket.socket(fileno=fd) as connection, hurried_collector():
        parent = Parent(connection)
        order = msgspec.json.decode(parent.order(), type=Order)
        share_log(order.log_name, order.log_turn)
        configure_logging(cast(Format, order.log_format), order.log_level)
        with hearing():
            parent.end_with_parent()
            parent.say("hears")
            try:
                _work(order, parent)
            except TrioworkersError as error:
                flush_logs()
                print(f"trioworkers: {on_lines(str(error))}", file=sys.stderr)  # noqa: T201
                return 2 if isinstance(error, WrongUsage | ConfigurationError) else 1
    return 0


def _work(order: Order, parent: Parent) -> None:
    from trioworkers.cli.loader import load_app  # noqa: PLC0415 - signals are heard before anything of the user's is imported
    from trioworkers.cli.usage import check_environment  # noqa: PLC0415 - as above

    app = load_app(order.target)
    ensure_logging()
    app.configure(redis_url=order.redis, **order.options)
    check_environment(app)
    narrow(app, order.only)
    if app.settings.redis_url.startswith("embedded:"):
        raise WrongUsage(
            "--processes: each process would have an embedded: Redis of its own; start one for all, redis://…"
        )
    app.configure(process_id=f"{app.settings.process_id or order.base}{order.suffix}")
    app.check()
    ending.nothing_follows()
    with _metrics_told(app, order):
        parent.say("loaded")
        run(app, parent.tell)


@contextmanager
def _metrics_told(app: App, order: Order) -> Iterator[None]:
    if order.metrics is None:
        yield
        return
    from trioworkers.observe.metrics import Metrics  # noqa: PLC0415 - only who serves them has the extra
    from trioworkers.observe.shared import telling  # noqa: PLC0415 - as above

    with telling(Path(order.metrics), order.log_name, Metrics(app)):
        yield


def _guarded(function: Callable[[], int]) -> int:
    try:
        return function()
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    with last_status():
        sys.exit(_guarded(lambda: main(int(sys.argv[-1]))))
