"""The front door: arguments → settings; load the app; call run. One file for each group of commands.

What is dear to import is imported where it is used: `trioworkers --help` should be there at once.
"""

from __future__ import annotations

import sys

import typer

from trioworkers.cli.enqueue import enqueue
from trioworkers.cli.run import run
from trioworkers.errors import TrioworkersError

app = typer.Typer(
    name="trioworkers",
    help="Background workers for Trio that speak Sidekiq.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(run)
app.command()(enqueue)


@app.command()
def demo(
    redis: str = typer.Option("embedded:", help="A Redis to use instead of a private one; it should be empty."),
) -> None:
    """Run the two example handlers on 2,000 tracking jobs and 50 puzzles, and show what comes of it."""
    from trioworkers.cli.demo import demo as run_demo  # noqa: PLC0415 - dear to import

    run_demo(redis)


def main() -> None:
    """The command `trioworkers`. Mistakes of ours to explain are one line on stderr and exit status 1 (usage: 2)."""
    try:
        app()
    except TrioworkersError as error:
        print(f"trioworkers: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(1)
