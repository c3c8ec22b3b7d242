"""All commands, by section: this table is the order of the help and of docs/cli.md.

A command is a function in the file of its group, and says only how it is called; what it does is in the folder above. Its first line is
its summary, `@examples` goes above it, common options come from `options.py`. What is dear to import it imports itself:
`trioworkers --help` should be there at once.
"""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from functools import cache
from typing import Any

import click
from click.exceptions import Exit

from trioworkers.cli import INTERRUPTED
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
from trioworkers.cli.commands.parameters import command
from trioworkers.cli.commands.root_options import completion_options, version_option
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


class Sections(click.Group):
    """The whole command. Its help lists the commands by section; a command is made when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - the method's signature
        """In the order of the table."""
        return [*FUNCTIONS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        """Made from its function."""
        return made(cmd_name) if cmd_name in FUNCTIONS else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Whoever mistypes a name is told which may be meant; older versions of click only say that there is none."""
        if not ctx.resilient_parsing and args[0] not in FUNCTIONS and args[0][:1].isalnum():
            near = [repr(name) for name in get_close_matches(args[0], FUNCTIONS)]
            hint = f" Did you mean {', '.join(near)}?" if near else ""
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Click would end with status 1 and say that it was aborted, like for a question that is answered with no."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Exit(INTERRUPTED) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as above
        """One list for each section, with one column for the names."""
        widest = max(map(len, FUNCTIONS))
        for section, functions in SECTIONS.items():
            commands = map(made, map(name_of, functions))
            rows = [
                (str(each.name).ljust(widest), each.get_short_help_str(formatter.width - widest - 6))
                for each in commands
            ]
            with formatter.section(section):
                formatter.write_dl(rows)


def name_of(function: Callable[..., None]) -> str:
    """As it is typed: `run_now` is run-now, and `import_` is import."""
    return function.__name__.rstrip("_").replace("_", "-")


@cache
def made(name: str) -> click.Command:
    """The command of this name."""
    return command(name, FUNCTIONS[name], epilog(FUNCTIONS[name]))


FUNCTIONS = {name_of(function): function for functions in SECTIONS.values() for function in functions}

app = Sections(
    "trioworkers",
    params=[version_option(), *completion_options()],
    help="Background workers for Trio that speak Sidekiq.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="`trioworkers COMMAND --help` has examples. Exit status: 0 done, 1 failed (one line says why), 2 wrong usage, 130 interrupted.",
)


def every_command() -> dict[str, click.Command]:
    """All of them, made, by name."""
    return {name: made(name) for name in FUNCTIONS}
