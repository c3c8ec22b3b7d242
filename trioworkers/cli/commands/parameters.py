"""How a command is declared: a function whose parameters are `Annotated` with `Option` or `Argument`; and what click makes of it.

Not Typer, which does the same: since 0.29 it imports pydantic to read any command line, 10 MB and 70 ms more than click takes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import Parameter, signature
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import attrs
import click
from click.shell_completion import CompletionItem

Complete = Callable[[click.Context, str], list[str]]
"""What a shell may complete a word to: of what is given already, and of the beginning of the word."""


@attrs.frozen
class Argument:
    """A positional parameter. `metavar`: how usage and help call it."""

    help: str
    metavar: str
    complete: Complete | None = None


@attrs.frozen(init=False)
class Option:
    """An option. Without `names` it is called as its parameter. `min`, `max`: of a number. `callback`: gets the value, returns it, or raises BadParameter."""

    names: Sequence[str]
    help: str
    metavar: str | None
    envvar: str | None
    show_default: bool
    min: float | None
    max: float | None
    callback: Callable[[Any], Any] | None
    complete: Complete | None

    def __init__(
        self,
        *names: str,
        help: str,  # noqa: A002 - click's word
        metavar: str | None = None,
        envvar: str | None = None,
        show_default: bool = True,
        min: float | None = None,  # noqa: A002 - as above
        max: float | None = None,  # noqa: A002 - as above
        callback: Callable[[Any], Any] | None = None,
        complete: Complete | None = None,
    ) -> None:
        self.__attrs_init__(names, help, metavar, envvar, show_default, min, max, callback, complete)


class Command(click.Command):
    """A command whose help explains its arguments, too, whichever version of click writes it."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """First the arguments, then the options."""
        arguments = [each.help_row(ctx) for each in self.params if isinstance(each, _Argument)]
        options = [each.get_help_record(ctx) for each in self.get_params(ctx) if isinstance(each, click.Option)]
        for title, rows in (("Arguments", arguments), ("Options", options)):
            if shown := [row for row in rows if row]:
                with formatter.section(title):
                    formatter.write_dl(shown)

    def format_arguments(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Newer versions of click would write them a second time."""


class _Argument(click.Argument):
    """With an explanation, which older versions of click have for options only."""

    def __init__(self, name: str, explanation: str, **words: Any) -> None:
        super().__init__([name], **words)
        self.help = explanation

    def make_metavar(self, ctx: click.Context) -> str:  # noqa: ARG002 - the method's signature
        """In brackets if it may be left out."""
        name = self.metavar or ""
        return name if self.required or name.startswith("[") else f"[{name}]"

    def help_row(self, ctx: click.Context) -> tuple[str, str]:
        return self.make_metavar(ctx), self.help or ""


def command(name: str, function: Callable[..., Any], epilog: str) -> Command:
    """The command that calls `function`. Its docstring is the help. Raises TypeError if a parameter is neither option nor argument."""
    hints = get_type_hints(function, include_extras=True)
    parameters = [
        _parameter(each.name, hints[each.name], each.default) for each in signature(function).parameters.values()
    ]
    return Command(name, callback=function, params=parameters, help=_help(function), epilog=epilog)


def _help(function: Callable[..., Any]) -> str:
    return "\n".join(line.strip() for line in (function.__doc__ or "").strip().splitlines())


def _parameter(name: str, hint: Any, default: Any) -> click.Parameter:
    """Of `Annotated[hint, declared]`."""
    hint, declared = get_args(hint)
    kinds = [each for each in get_args(hint) if each is not type(None)] if _is_union(hint) else [hint]
    (kind,) = kinds
    many = get_origin(kind) is list
    if many:
        (kind,) = get_args(kind)
    words: dict[str, Any] = {"shell_complete": _completing(declared.complete)} if declared.complete else {}
    if isinstance(declared, Argument):
        return _argument(name, kind, declared, many=many, default=default, words=words)
    return _option(name, kind, declared, many=many, default=default, words=words)


def _is_union(hint: Any) -> bool:
    return get_origin(hint) in (Union, UnionType)


def _argument(
    name: str, kind: Any, declared: Argument, *, many: bool, default: Any, words: dict[str, Any]
) -> click.Parameter:
    if many:
        words["nargs"] = -1
        words["callback"] = _none_if_empty
    if default is not Parameter.empty and not many:
        words["default"] = default
    required = default is Parameter.empty
    return _Argument(name, declared.help, required=required, metavar=declared.metavar, type=_type(kind), **words)


def _option(
    name: str, kind: Any, declared: Option, *, many: bool, default: Any, words: dict[str, Any]
) -> click.Parameter:
    if kind is bool:
        words["is_flag"] = True
    else:
        words["type"] = _type(kind, declared.min, declared.max)
        words["metavar"] = declared.metavar
    if many:
        words["multiple"] = True
        words["callback"] = _none_if_empty
    else:
        words["default"] = default
    if declared.callback is not None:
        words["callback"] = _checking(declared.callback)
    return click.Option(
        [name, *(declared.names or [f"--{name.replace('_', '-')}"])],
        help=declared.help,
        envvar=declared.envvar,
        show_envvar=True,
        show_default=declared.show_default and kind is not bool,
        **words,
    )


def _type(kind: Any, lowest: float | None = None, highest: float | None = None) -> Any:
    """What reads a word of the command line."""
    if get_origin(kind) is Literal:
        return click.Choice(get_args(kind))
    if kind is Path:
        return click.Path(path_type=Path)
    if lowest is not None or highest is not None:
        return click.IntRange(lowest, highest) if kind is int else click.FloatRange(lowest, highest)  # type: ignore[arg-type]
    return {str: click.STRING, int: click.INT, float: click.FLOAT}[kind]


def _none_if_empty(ctx: click.Context, parameter: click.Parameter, value: tuple[Any, ...]) -> list[Any] | None:  # noqa: ARG001 - click's signature
    return [*value] or None


def _checking(callback: Callable[[Any], Any]) -> Callable[..., Any]:
    return lambda ctx, parameter, value: callback(value)  # noqa: ARG005 - click's signature


def _completing(complete: Complete) -> Callable[..., list[CompletionItem]]:
    return lambda ctx, parameter, word: [CompletionItem(found) for found in complete(ctx, word)]  # noqa: ARG005 - click's signature
