"""`trioworkers dev TARGET`: a worker for whoever writes handlers; what it does is in `cli/dev/`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from click.exceptions import Exit

from trioworkers.cli.commands.examples import examples
from trioworkers.cli.commands.options import LogFormat, LogLevel, Target
from trioworkers.cli.commands.parameters import Option


@examples(
    ("trioworkers dev app.py", "a worker, and a Redis if there is none"),
    ("trioworkers dev app.py --redis redis://localhost:6379/5", "with your own Redis"),
    ("trioworkers dev shop.jobs:app --watch ../shared", "also restarts when ../shared changes"),
)
def dev(
    target: Target,
    *,
    redis: Annotated[
        str | None,
        Option(
            help="redis://, rediss://, redis+sentinel://, redis+cluster://, unix:// or embedded:[DIRECTORY]. Default: what the App says, REDIS_URL, "
            "redis://localhost:6379/0 if one answers there, or a new one."
        ),
    ] = None,
    watch: Annotated[
        list[Path] | None,
        Option(help="Also restart when Python files in this directory change. May be given several times."),
    ] = None,
    shutdown_timeout: Annotated[
        float,
        Option(help="Seconds that running jobs have to end at a restart. Then they go back to their queue."),
    ] = 1.0,
    log_format: LogFormat = "text",
    log_level: LogLevel = "info",
) -> None:
    """Run a worker while you write its code.

    It restarts when a file that it has imported changes, or when a new file appears beside them. If there is no Redis, it starts one. This Redis keeps its data in .trioworkers/ in this directory, so jobs survive a restart.
    While it runs, the other commands find its Redis without an option, in this directory and those below. After a syntax error it waits for the next change. If no change of the code
    can help (no such file, no server program, a wrong password), it ends with status 1.
    Ctrl-C stops everything. A second Ctrl-C does not wait for running jobs.
    """
    from trioworkers.cli.dev.reload import develop  # noqa: PLC0415 - `--help` should not wait for it
    from trioworkers.cli.dev.worker_process import Wishes  # noqa: PLC0415 - as above
    from trioworkers.cli.usage import check_options, check_url  # noqa: PLC0415 - as above
    from trioworkers.process.logs import configure_logging  # noqa: PLC0415 - as above

    check_url(redis, "--redis")
    check_options(shutdown_timeout=shutdown_timeout)
    configure_logging(log_format, log_level)
    raise Exit(develop(Wishes(target, redis, tuple(watch or ()), shutdown_timeout, log_format, log_level)))
