"""`trioworkers run TARGET`: a worker, or several under one parent."""

from __future__ import annotations

from typing import Annotated, Literal

from click import get_current_context
from click.core import ParameterSource
from click.exceptions import Exit

from trioworkers.cli.commands.examples import examples
from trioworkers.cli.commands.options import LogFormat, LogLevel, Target
from trioworkers.cli.commands.parameters import Option
from trioworkers.cli.commands.web import ReadToken, Token
from trioworkers.errors import WrongUsage


@examples(
    ("trioworkers run handlers:app", "the App named app in the module handlers"),
    ("trioworkers run app.py", "the only App in that file"),
    (
        "trioworkers run app.py --redis redis://redis.internal:6379/1 --process-id w1",
        "after a restart, w1 has its jobs back",
    ),
    ("trioworkers run app.py --web 127.0.0.1:8090", "with the dashboard"),
    (
        "trioworkers run app.py --queues critical=6,default=3 --concurrency 50",
        "only two of the App's queues, by weight",
    ),
    (
        "trioworkers run app.py --capsule io=200 --capsule reports",
        "two of the App's capsules; the first with 200 slots",
    ),
    ("trioworkers run app.py --processes auto --max-rss 600M", "one process for each core; HUP replaces them in turn"),
    ("trioworkers run app.py --log-format json --log-level warning", "no lines for jobs that succeed"),
)
def run(
    target: Target,
    *,
    redis: Annotated[
        str | None,
        Option(
            help="redis://, rediss://, redis+sentinel://, redis+cluster://, unix:// or embedded:[DIRECTORY]. Default: what the App says."
        ),
    ] = None,
    process_id: Annotated[str | None, Option(help="A name that this worker keeps after a restart.")] = None,
    namespace: Annotated[str | None, Option(help="A text before all keys in Redis.")] = None,
    shutdown_timeout: Annotated[
        float | None, Option(help="Seconds that running jobs have to end when the worker is stopped.")
    ] = None,
    lease: Annotated[
        float | None, Option(help="If the worker is silent for so many seconds, others take over its jobs.")
    ] = None,
    unknown: Annotated[
        Literal["retry", "dead", "leave"] | None,
        Option(help="What becomes of jobs whose class has no handler. Default: what the App says, or retry."),
    ] = None,
    strict: Annotated[
        bool | None, Option("--strict", help="Don't run on a queue from which another kind of worker fetches.")
    ] = None,
    web: Annotated[
        str | None,
        Option(
            metavar="HOST:PORT",
            help="Also serve the dashboard, in a separate thread (with --processes: a separate process); see `trioworkers web`.",
        ),
    ] = None,
    web_token: Token = None,
    web_read_token: ReadToken = None,
    queues: Annotated[
        str | None,
        Option(
            metavar="LIST",
            help="Serve only these queues of the App: critical,default. With --concurrency: in this order. critical=6,default=3: by weight.",
        ),
    ] = None,
    concurrency: Annotated[
        int | None,
        Option(metavar="N", help="With --queues: the number of jobs at once for all of them, in one capsule."),
    ] = None,
    capsule: Annotated[
        list[str] | None,
        Option(
            metavar="NAME[=N[:LIST]]",
            help="Serve this capsule of the App. io=50: with 50 slots. io=50:critical=6,default=3: with these queues. May be given several times.",
        ),
    ] = None,
    processes: Annotated[
        str | None,
        Option(
            metavar="N",
            envvar="TRIOWORKERS_PROCESSES",
            help="Run so many worker processes, and watch over them. auto: one for each core. 0.5x: half as many as cores.",
        ),
    ] = None,
    max_rss: Annotated[
        str | None,
        Option(metavar="SIZE", help="With --processes: replace a process that uses more memory (600M, 1.5G)."),
    ] = None,
    health: Annotated[
        str | None,
        Option(metavar="HOST:PORT", help="Answer probes at this address: /live, /ready, /drained."),
    ] = None,
    log_format: LogFormat = "text",
    log_level: LogLevel = "info",
) -> None:
    """Run a worker until it is stopped.

    TERM or INT stops it: running jobs have the shutdown timeout to end, the others go back to their queue. A second signal cancels at once. A
    third signal exits at once. TSTP: fetch no more. TTIN: log where each running job is. With --processes, HUP or USR2: replace one process
    after the other. A process ends when its successor is ready.
    """
    from trioworkers.cli.served_queues import read_queues  # noqa: PLC0415 - `--help` should not wait for it
    from trioworkers.cli.start import Asked, start  # noqa: PLC0415 - as above

    if web is None:
        _refuse_given("web_token", "web_read_token")
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
        raise Exit(status)


def _refuse_given(*names: str) -> None:
    """Raise WrongUsage for an option that nobody obeys without `--web`, where it was given; the variable may be set for other commands."""
    for name in names:
        if get_current_context().get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise WrongUsage(f"--{name.replace('_', '-')} is for --web HOST:PORT: nothing else has a login")
