"""The process that serves the dashboard of `trioworkers run --processes --web`, started by `processes.py`. `python -m trioworkers.cli.page_child TARGET FD`.

It has no jobs; what it serves comes from Redis, and from the other processes what they count. So a job that blocks one of them holds up no page, buttons are remembered in
one place, and there is one port whoever comes and goes. The socket that listens is the parent's, so nobody is refused while one such process follows another.
"""

from __future__ import annotations

import socket
import sys
from functools import partial
from pathlib import Path
from typing import Any, cast

import attrs
import msgspec

from trioworkers.errors import TrioworkersError
from trioworkers.printable import on_lines
from trioworkers.process.log_formats import share_log
from trioworkers.process.logs import Format, configure_logging, flush_logs
from trioworkers.process.parent import Parent


@attrs.frozen
class PageOrder:
    """What the parent tells it first. `listener`: a descriptor. `metrics`: where the others tell what they count; None: they don't. `is_first`: none has served before."""

    target: str
    redis: str | None
    options: dict[str, Any]
    bind: str
    token: str | None
    read_token: str | None
    listener: int
    metrics: str | None
    is_first: bool
    log_format: str
    log_level: str
    log_turn: int | None = None


def main(fd: int) -> int:
    """Serve until ended, or until nobody is there who started us. Returns the exit status."""
    parent = Parent(socket.socket(fileno=fd))
    order = msgspec.json.decode(parent.order(), type=PageOrder)
    share_log("web", order.log_turn)
    configure_logging(cast(Format, order.log_format), order.log_level)
    parent.end_with_parent()
    try:
        _serve(order)
    except TrioworkersError as error:
        flush_logs()
        print(f"trioworkers: {on_lines(str(error))}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _serve(order: PageOrder) -> None:
    import trio  # noqa: PLC0415 - the parent's end is noticed before anything heavy is imported

    from trioworkers.cli.dashboard import known, shown_of  # noqa: PLC0415 - as above
    from trioworkers.cli.loader import load_app  # noqa: PLC0415 - as above
    from trioworkers.process.until_stopped import until_stopped  # noqa: PLC0415 - as above
    from trioworkers.web.serving import Serving, serve  # noqa: PLC0415 - as above

    app = load_app(order.target)
    app.configure(redis_url=order.redis, **order.options)
    redises = known(shown_of(app))
    metrics = None
    if order.metrics is not None:
        from trioworkers.observe.gathered import Gathered  # noqa: PLC0415 - may not be installed

        metrics = Gathered(Path(order.metrics), goes_on=not order.is_first)
    application = Serving(order.bind, order.token, order.read_token).application(redises, metrics)
    trio.run(until_stopped, partial(serve, application, socket.socket(fileno=order.listener)))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[-1])))
