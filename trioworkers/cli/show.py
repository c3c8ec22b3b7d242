"""`trioworkers demo`: the command; what it does is in `cli/demo.py`."""

from __future__ import annotations

from typing import Annotated

import typer

from trioworkers.cli.examples import examples


@examples(("trioworkers demo", "needs nothing: it brings its own Redis"))
def demo(
    *,
    redis: Annotated[
        str, typer.Option(help="A Redis to use instead of a private one; it should be empty.")
    ] = "embedded:",
) -> None:
    """Run the two example handlers on 2,000 tracking jobs and 50 puzzles, and show what comes of it."""
    from trioworkers.cli.demo import demo as run_demo  # noqa: PLC0415 - dear to import

    run_demo(redis)
