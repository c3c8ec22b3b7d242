"""What a shell completes where: the argument's name for what `cli/suggestions.py` finds in the Redis that the line names."""

from __future__ import annotations

import click

from trioworkers.cli.commands.parameters import Complete


def complete(what: str) -> Complete:
    """A completer. `what`: a function of suggestions.py."""

    def completed(ctx: click.Context, incomplete: str) -> list[str]:
        from trioworkers.cli import suggestions  # noqa: PLC0415 - dear to import

        given = ctx.params
        found = suggestions.suggest(getattr(suggestions, what), given.get("redis"), given.get("namespace"))
        return [name for name in found if name.startswith(incomplete)]

    return completed
