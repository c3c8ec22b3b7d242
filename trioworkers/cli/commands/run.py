"""`trioworkers run TARGET`: a worker, or several under one parent."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from trioworkers.cli.commands.examples import examples
from trioworkers.cli.commands.options import LogFormat, LogLevel, Target
from trioworkers.cli.commands.web import ReadToken, Token


@examples(
    ("trioworkers run handlers:app", "the App named app in the module handlers"),
    ("trioworkers run app.py", "the only App in that file"),
    ("trioworkers run app.py --redis redis://redis.internal:6379/1 --process-id w1", "its jobs come back to w1"),
    ("trioworkers run app.py --web 127.0.0.1:8090", "with the dashboard"),
    ("trioworkers run app.py --queues critical=6,default=3 --concurrency 50", "one fleet of two that this app makes"),
    (
        "trioworkers run app.py --capsule io=200 --capsule reports",
        "two of the App's capsules, one of them with other slots",
    ),
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
    capsule: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=N[:LIST]]",
            help="Serve this capsule of the App's; io=50: with so many slots; io=50:critical=6,default=3: of these queues. Several times: several.",
        ),
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
    from trioworkers.cli.served_queues import read_queues  # noqa: PLC0415 - `--help` should not wait for it
    from trioworkers.cli.start import Asked, start  # noqa: PLC0415 - as above

    asked = Asked(
        target=target,
        redis=redis,
        options={
            "process_id": process_id,
            "namespace": namespace,
            "shutdown_timeout": shutdown_timeout,
            "lease": lease,
            "unknown": unknown,
            "strict": strict,
        },
        only=read_queues(queues, concurrency, capsule or ()),
        processes=processes,
        max_rss=max_rss,
        health=health,
        web=None if web is None else (web, web_token, web_read_token),
        log_format=log_format,
        log_level=log_level,
    )
    if status := start(asked):
        raise typer.Exit(status)
