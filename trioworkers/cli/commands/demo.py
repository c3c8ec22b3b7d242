"""`trioworkers demo`: the command; what it does is in `cli/demo_run.py`."""

from __future__ import annotations

from typing import Annotated

from trioworkers.cli.commands.examples import examples
from trioworkers.cli.commands.parameters import Option


@examples(("trioworkers demo", "needs nothing: it brings its own Redis"))
def demo(
    *,
    redis: Annotated[str, Option(help="Use this Redis instead of a private one. It should be empty.")] = "embedded:",
) -> None:
    """Show a worker at work, on 2,050 jobs.

    The example handlers run 2,000 tracking jobs, solve 50 puzzles, and bind a book in a batch of 12. At the end you see a summary.
    """
    from trioworkers.cli.demo_run import demo as run_demo  # noqa: PLC0415 - dear to import
    from trioworkers.cli.usage import check_url  # noqa: PLC0415 - as above

    check_url(redis, "--redis")
    run_demo(redis)
