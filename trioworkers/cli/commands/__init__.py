"""All commands, by section: this table is the order of the help and of docs/cli.md.

A command is a function in the file of its group, and says only how it is called; what it does is in the folder above. Its first line is
its summary, `@examples` goes above it, common options come from `options.py`. What is dear to import it imports itself:
`trioworkers --help` should be there at once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from keyword import iskeyword
from typing import Any

import click
from click.exceptions import Exit

from trioworkers.cli import INTERRUPTED
from trioworkers.cli.commands.examples import epilog
from trioworkers.cli.commands.parameters import command
from trioworkers.cli.commands.root_options import completion_options, version_option
from trioworkers.wire.places import all_places

SECTIONS = {
    "Work": {"dev": "dev", "new": "new", "run": "run", "enqueue": "enqueue", "demo": "demo"},
    "Look": {
        **dict.fromkeys(("ps", "queues", "jobs"), "look"),
        **{place.command: "look" for place in all_places() if place.command},
        "show": "look",
        **dict.fromkeys(("watch", "result", "finished"), "ended"),
        **dict.fromkeys(("batches", "batch"), "batches"),
        "stats": "look",
        "web": "web",
    },
    "Act": {
        **dict.fromkeys(("retry", "run-now", "requeue", "bury", "delete", "purge"), "act"),
        **dict.fromkeys(("export", "import"), "transfer"),
    },
    "Control": {
        **dict.fromkeys(("cancel", "pause", "resume"), "control"),
        "limits": "limits",
        "unique": "unique",
        "cron": "cron",
        "outboxes": "outboxes",
        **dict.fromkeys(("quiet", "stop"), "control"),
    },
    "Care": {"doctor": "doctor"},
}
"""By section: the name of each command, and the module here that has its function. Only the module of the command that is called is imported."""

MODULES = {name: module for section in SECTIONS.values() for name, module in section.items()}


class Sections(click.Group):
    """The whole command. Its help lists the commands by section; a command is made when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - the method's signature
        """In the order of the table."""
        return [*MODULES]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        """Made from its function."""
        return made(cmd_name) if cmd_name in MODULES else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Whoever mistypes a name is told which may be meant; older versions of click only say that there is none."""
        if not ctx.resilient_parsing and args[0] not in MODULES and args[0][:1].isalnum():
            from difflib import get_close_matches  # noqa: PLC0415 - few need it

            near = [repr(name) for name in get_close_matches(args[0], MODULES)]
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
        widest = max(map(len, MODULES))
        for section, names in SECTIONS.items():
            commands = map(made, names)
            rows = [
                (str(each.name).ljust(widest), each.get_short_help_str(formatter.width - widest - 6))
                for each in commands
            ]
            with formatter.section(section):
                formatter.write_dl(rows)


def function_of(name: str) -> Callable[..., None]:
    """What a command does. `run-now` is the function run_now, and `import` is import_."""
    attribute = f"{name.replace('-', '_')}{'_' * iskeyword(name)}"
    function: Callable[..., None] = getattr(import_module(f"{__name__}.{MODULES[name]}"), attribute)
    return function


@cache
def made(name: str) -> click.Command:
    """The command of this name."""
    function = function_of(name)
    return command(name, function, epilog(function))


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
    return {name: made(name) for name in MODULES}
