"""`trioworkers run TARGET`: a worker, or several under one parent."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Annotated, Literal

import typer

from trioworkers.cli.commands.examples import examples
from trioworkers.cli.commands.options import LogFormat, LogLevel, Target
from trioworkers.cli.commands.web import ReadToken, Token
from trioworkers.errors import WrongUsage


@examples(
    ("trioworkers run handlers:app", "the App named app in the module handlers"),
    ("trioworkers run app.py", "the only App in that file"),
    ("trioworkers run app.py --redis redis://redis.internal:6379/1 --process-id w1", "its jobs come back to w1"),
    ("trioworkers run app.py --web 127.0.0.1:8090", "with the dashboard"),
    ("trioworkers run app.py --queues critical=6,default=3 --concurrency 50", "one fleet of two that this app makes"),
    ("trioworkers run app.py --processes auto --max-rss 600M", "one process a core; HUP replaces them in turn"),
    ("trioworkers run app.py --log-format json --log-level warning", "no line for jobs that go well"),
)
def run(
    target: Target,
    *,
    redis: Annotated[
        str | None,
        typer.Option(
            help="redis://, rediss://, redis+sentinel://, redis+cluster://, unix:// or embedded:[DIRECTORY]. Default: what the App says."
        ),
    ] = None,
    process_id: Annotated[str | None, typer.Option(help="A name for this worker that it keeps over restarts.")] = None,
    namespace: Annotated[str | None, typer.Option(help="Goes before all keys in Redis.")] = None,
    shutdown_timeout: Annotated[
        float | None, typer.Option(help="Seconds that running jobs get when the worker is stopped.")
    ] = None,
    lease: Annotated[float | None, typer.Option(help="Seconds of silence after which others take over.")] = None,
    unknown: Annotated[
        Literal["retry", "dead", "leave"] | None,
        typer.Option(help="What becomes of jobs whose class has no handler. Default: what the App says, or retry."),
    ] = None,
    strict: Annotated[
        bool | None, typer.Option("--strict", help="Don't run on a queue from which another kind of worker fetches.")
    ] = None,
    web: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Serve the dashboard, too, from a thread of its own; with --processes from a process of its own; see `trioworkers web`.",
        ),
    ] = None,
    web_token: Token = None,
    web_read_token: ReadToken = None,
    queues: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Serve these of the App's queues only: critical,default. With --concurrency, in that order; critical=6,default=3: by weight.",
        ),
    ] = None,
    concurrency: Annotated[
        int | None,
        typer.Option(metavar="N", help="With --queues: so many of their jobs at once, in one capsule."),
    ] = None,
    processes: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            envvar="TRIOWORKERS_PROCESSES",
            help="Run so many workers in processes of their own, and watch over them; auto: one a core; 0.5x: half the cores.",
        ),
    ] = None,
    max_rss: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="With --processes: replace a process that has grown larger (600M, 1.5G)."),
    ] = None,
    health: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Answer probes there: /live, /ready, /drained."),
    ] = None,
    log_format: LogFormat = "text",
    log_level: LogLevel = "info",
) -> None:
    """Run a worker until it is stopped.

    TERM or INT stops it: running jobs get the shutdown timeout, the rest goes back to its queue. A second signal cancels at once, a
    third one exits at once. TSTP: fetch no more. TTIN: log where each running job is. With --processes, HUP or USR2: replace one process
    after the other, each when its successor is ready.
    """
    from trioworkers.cli.loader import load_app  # noqa: PLC0415 - `--help` should not wait for it
    from trioworkers.cli.served_queues import narrow, read_queues  # noqa: PLC0415 - as above
    from trioworkers.cli.usage import check_environment, check_options, check_url  # noqa: PLC0415 - as above
    from trioworkers.process.logs import configure_logging, ensure_logging  # noqa: PLC0415 - as above
    from trioworkers.process.signals import hearing  # noqa: PLC0415 - as above

    check_url(redis, "--redis")
    options = {
        "process_id": process_id,
        "namespace": namespace,
        "shutdown_timeout": shutdown_timeout,
        "lease": lease,
        "unknown": unknown,
        "strict": strict,
    }
    check_options(**options)
    only = read_queues(queues, concurrency)
    if processes is None and max_rss is not None:
        raise WrongUsage("--max-rss is for --processes: who watches over a process is another one (--processes 1)")
    if processes is not None or health is not None:
        from trioworkers.cli.processes import check_health, read_count, read_size, supervise  # noqa: PLC0415 - few need it

        check_health(health)
        if processes is not None:
            from trioworkers.cli.processes_page import Web  # noqa: PLC0415 - as above

            count, limit = read_count(processes), None if max_rss is None else read_size(max_rss)
            configure_logging(log_format, log_level)
            log = (log_format, log_level)
            page = None if web is None else Web(web, web_token, web_read_token)
            raise typer.Exit(
                supervise(
                    count, limit, health, target=target, redis=redis, options=options, only=only, log=log, web=page
                )
            )
    configure_logging(log_format, log_level)
    with hearing():  # from now on: a module may take its time, and a stop is a stop
        app = load_app(target)
        ensure_logging()
        app.configure(redis_url=redis, **options)
        check_environment(app)
        narrow(app, only)
        with ExitStack() as stack:
            if web is not None:
                from trioworkers.cli.dashboard import beside_worker, serving  # noqa: PLC0415 - few need it

                stack.enter_context(beside_worker(app, serving(web, web_token, web_read_token, None, read_only=False)))
            if health is None:
                app.run()
                return
            from trioworkers.process.health import Told, serving_health  # noqa: PLC0415 - few need it
            from trioworkers.process.run import run as run_worker  # noqa: PLC0415 - `--help` should not wait for it

            told = Told()
            stack.enter_context(serving_health(health, told.health))
            run_worker(app, told.tell)
