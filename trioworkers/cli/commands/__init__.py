"""All commands, by section: this table is the order of the help and of docs/cli.md.

A command is a function in the file of its group, and says only how it is called; what it does is in the folder above. Its first line is
its summary, `@examples` goes above it, common options come from `options.py`. What is dear to import it imports itself:
`trioworkers --help` should be there at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from trioworkers import __version__
from trioworkers.cli.commands.act import bury, delete, purge, requeue, retry, run_now
from trioworkers.cli.commands.batches import batch, batches
from trioworkers.cli.commands.control import cancel, pause, quiet, resume, stop
from trioworkers.cli.commands.cron import cron
from trioworkers.cli.commands.demo import demo
from trioworkers.cli.commands.dev import dev
from trioworkers.cli.commands.doctor import doctor
from trioworkers.cli.commands.ended import finished, result, watch
from trioworkers.cli.commands.enqueue import enqueue
from trioworkers.cli.commands.examples import epilog
from trioworkers.cli.commands.limits import limits
from trioworkers.cli.commands.look import LISTS, jobs, ps, queues, show, stats
from trioworkers.cli.commands.new import new
from trioworkers.cli.commands.outboxes import outboxes
from trioworkers.cli.commands.run import run
from trioworkers.cli.commands.transfer import export, import_
from trioworkers.cli.commands.unique import unique
from trioworkers.cli.commands.web import web

SECTIONS: dict[str, tuple[Callable[..., None], ...]] = {
    "Work": (dev, new, run, enqueue, demo),
    "Look": (ps, queues, jobs, *LISTS, show, watch, result, finished, batches, batch, stats, web),
    "Act": (retry, run_now, requeue, bury, delete, purge, export, import_),
    "Control": (cancel, pause, resume, limits, unique, cron, outboxes, quiet, stop),
    "Care": (doctor,),
}


class Sections(TyperGroup):
    """The command group; its help lists the commands by section."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - the method's signature
        """One list for each section, with one column for the names."""
        widest = max(map(len, self.commands))
        for section in SECTIONS:
            rows = [
                (name.ljust(widest), command.get_short_help_str(formatter.width - widest - 6))
                for name, command in self.commands.items()
                if getattr(command, "rich_help_panel", None) == section
            ]
            if rows:
                with formatter.section(section):
                    formatter.write_dl(rows)


app = typer.Typer(
    name="trioworkers",
    cls=Sections,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="`trioworkers COMMAND --help` has examples. Exit status: 0 done, 1 failed (one line says why), 2 wrong usage, 130 interrupted.",
)
for _section, _functions in SECTIONS.items():
    for _function in _functions:
        _name = _function.__name__.rstrip("_").replace("_", "-")
        app.command(_name, epilog=epilog(_function), rich_help_panel=_section)(_function)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"trioworkers {__version__}")
        raise typer.Exit


@app.callback()
def root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Background workers for Trio that speak Sidekiq."""
