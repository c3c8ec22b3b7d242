"""`trioworkers demo`: the command; what it does is in `cli/demo_run.py`."""

from __future__ import annotations

from typing import Annotated

import typer

from trioworkers.cli.commands.examples import examples


@examples(("trioworkers demo", "needs nothing: it brings its own Redis"))
def demo(
    *,
    redis: Annotated[
        str, typer.Option(help="A Redis to use instead of a private one; it should be empty.")
    ] = "embedded:",
) -> None:
    """Show a worker at work, on 2,050 jobs.

    The example handlers run 2,000 tracking jobs, solve 50 puzzles and bind a book of 12, a batch; at the end it is said what came of them.
    """
    from trioworkers.cli.demo_run import demo as run_demo  # noqa: PLC0415 - dear to import
    from trioworkers.cli.usage import check_url  # noqa: PLC0415 - as above

    check_url(redis, "--redis")
    run_demo(redis)
