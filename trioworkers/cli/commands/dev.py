"""`trioworkers dev TARGET`: a worker for whoever writes handlers; what it does is in `cli/dev/`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trioworkers.cli.commands.examples import examples
from trioworkers.cli.commands.options import LogFormat, LogLevel, Target


@examples(
    ("trioworkers dev app.py", "everything that app.py needs, a Redis included"),
    ("trioworkers dev app.py --redis redis://localhost:6379/5", "on a Redis of yours"),
    ("trioworkers dev shop.jobs:app --watch ../shared", "restarts when that changes, too"),
)
def dev(
    target: Target,
    *,
    redis: Annotated[
        str | None,
        typer.Option(
            help="redis://, rediss://, redis+sentinel://, redis+cluster://, unix:// or embedded:[DIRECTORY]. Default: what the App says, REDIS_URL, "
            "redis://localhost:6379/0 if one is there, else one of its own."
        ),
    ] = None,
    watch: Annotated[
        list[Path] | None,
        typer.Option(help="Also restart when Python files there change. May be given several times."),
    ] = None,
    shutdown_timeout: Annotated[
        float, typer.Option(help="Seconds that running jobs get at a restart; then they go back to their queue.")
    ] = 1.0,
    log_format: LogFormat = "text",
    log_level: LogLevel = "info",
) -> None:
    """Run a worker while you write its code.

    It restarts when a file changes that it has imported, or one is new beside these, and brings a Redis if there is none. Its own Redis keeps its data in .trioworkers/ in this directory, so that jobs survive a restart. While it runs, the other
    commands find its Redis from this directory and those below without any option. A syntax error is shown and waited out; what no change of the code
    would mend (no such file, no server program, a wrong password) ends it with status 1.
    Ctrl-C stops it all; a second one does not wait for running jobs.
    """
    from trioworkers.cli.dev.reload import develop  # noqa: PLC0415 - `--help` should not wait for it
    from trioworkers.cli.dev.worker_process import Wishes  # noqa: PLC0415 - as above
    from trioworkers.cli.usage import check_options, check_url  # noqa: PLC0415 - as above
    from trioworkers.process.logs import configure_logging  # noqa: PLC0415 - as above

    check_url(redis, "--redis")
    check_options(shutdown_timeout=shutdown_timeout)
    configure_logging(log_format, log_level)
    raise typer.Exit(develop(Wishes(target, redis, tuple(watch or ()), shutdown_timeout, log_format, log_level)))
