"""What `run` does: checks what was asked for before anything is opened, then runs one worker here, or several under this process."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Literal

import attrs

from trioworkers.cli.served_queues import Only, narrow
from trioworkers.cli.usage import check_environment, check_options, check_url
from trioworkers.errors import WrongUsage
from trioworkers.process.ending import ending
from trioworkers.process.logs import configure_logging, ensure_logging


@attrs.frozen
class Asked:
    """What the command line asks for. `options`: the App's. `only`: see `served_queues`. `web`: address, token, token to look only."""

    target: str
    redis: str | None
    options: Mapping[str, Any]
    only: Only | None
    processes: str | None
    max_rss: str | None
    health: str | None
    web: tuple[str, str | None, str | None] | None
    log_format: Literal["text", "json", "logfmt"]
    log_level: Literal["debug", "info", "warning", "error"]


def start(asked: Asked) -> int:
    """Run until stopped. Returns the exit status. Raises WrongUsage."""
    check_url(asked.redis, "--redis")
    check_options(**asked.options)
    if asked.processes is None and asked.max_rss is not None:
        raise WrongUsage("--max-rss is for --processes: who watches over a process is another one (--processes 1)")
    if asked.health is not None:
        from trioworkers.cli.processes import check_health  # noqa: PLC0415 - few need it

        check_health(asked.health)
    return _run_here(asked) if asked.processes is None else _supervise(asked, asked.processes)


def _supervise(asked: Asked, processes: str) -> int:
    from trioworkers.cli.processes import read_count, read_size, supervise  # noqa: PLC0415 - few need it
    from trioworkers.cli.processes_page import Web  # noqa: PLC0415 - as above

    count, limit = read_count(processes), None if asked.max_rss is None else read_size(asked.max_rss)
    configure_logging(asked.log_format, asked.log_level)
    return supervise(
        count,
        limit,
        asked.health,
        target=asked.target,
        redis=asked.redis,
        options=asked.options,
        only=asked.only,
        log=(asked.log_format, asked.log_level),
        web=None if asked.web is None else Web(*asked.web),
    )


def _run_here(asked: Asked) -> int:
    from trioworkers.cli.loader import load_app  # noqa: PLC0415 - who only supervises loads none
    from trioworkers.process.signals import hearing  # noqa: PLC0415 - and no Trio

    configure_logging(asked.log_format, asked.log_level)
    with hearing():  # from now on: a module may take its time, and a stop is a stop
        app = load_app(asked.target)
        ensure_logging()
        app.configure(redis_url=asked.redis, **asked.options)
        check_environment(app)
        narrow(app, asked.only)
        ending.nothing_follows()
        with ExitStack() as stack:
            if asked.web is not None:
                from trioworkers.cli.dashboard import beside_worker, serving  # noqa: PLC0415 - few need it

                stack.enter_context(beside_worker(app, serving(*asked.web, None, read_only=False)))
            if asked.health is None:
                app.run()
                return 0
            from trioworkers.process.health import Told, serving_health  # noqa: PLC0415 - few need it
            from trioworkers.process.run import run as run_worker  # noqa: PLC0415 - as above

            told = Told()
            stack.enter_context(serving_health(asked.health, told.health))
            run_worker(app, told.tell)
            return 0
