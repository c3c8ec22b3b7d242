"""Writes docs/cli.md from the commands themselves: `make docs`. A test sees to it that the page is current."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import typer

from trioworkers.cli.commands import SECTIONS, app
from trioworkers.cli.commands.examples import examples_of

HEAD = """\
# The command line

<!-- Written by `make docs` from the commands themselves. -->

`trioworkers COMMAND --help` shows the same. `python -m trioworkers` is the same as `trioworkers`.
`trioworkers --install-completion` has your bash, zsh or fish complete commands and options, and from Redis the names of queues, classes and
processes and the jids of the jobs that are in front.

**Which Redis.** `run` takes what `--redis`, the `App` or `REDIS_URL` says, else `redis://localhost:6379/0`. `dev` likewise, but brings a server of
its own where none answers at that address. All others take `--redis`, `REDIS_URL`, or the Redis of a `trioworkers dev` that runs in this directory
or one above, in this order, else the same default.

<a name="status"></a>**Exit status.** 0: done; for `run` and `dev` also: stopped by a signal, for being stopped is not failing. 1: failed, one line on stderr
says why (no Redis, wrong password, no such job or file, several jobs whose jids begin so, nobody there to say yes, a job that does not stop); for `doctor`:
a problem was found. 2: wrong usage, that is a command, option, filter or value that can't be, whatever Redis holds, also where it stands in the
environment; nothing was looked at or done. 130: interrupted by Ctrl-C; what is done is done, the rest is as it was.

**Log** of `run` and `dev`, on stderr: `start`, then `done`, `fail` or `stop`, one line for each, with class, jid, queue, attempt and the time it took;
`--log-level warning` leaves only what goes wrong. A failure says what is `next` and has a traceback that begins in your code. Arguments are never
logged. `--log-format logfmt` and `json` have the same as fields: `time level logger pid message class jid queue attempt elapsed error next traceback`.
Colours only on a terminal; `NO_COLOR` and `FORCE_COLOR` are obeyed.

**Times.** People get their local time, in `show` with its distance from UTC, and lengths of time everywhere else. Machines get UTC: `--json` has epoch
seconds, a log that goes elsewhere than to a terminal ISO 8601. Days that are counted (`stats`) are UTC's, as Sidekiq's are.
"""

OFTEN = 3
"""An option that as many commands have, with the same words, is explained once."""

COMMON = """\
## Common options
"""

TAIL = """\
## A Redis user for workers

All that workers and these commands need, and no more (with a namespace `~NAMESPACE:*` and `&NAMESPACE:*` will do for `~*` and `&*`); `trioworkers doctor` tells what is missing. `&*` is for who waits for results:
without it they are found half a second later.

<!-- not run: a command of Redis; tests/broker/test_namespace.py gives it with keys of its own -->

```text
ACL SETUSER worker on >PASSWORD ~* &* +@all -@admin -@dangerous +info +config|get +client|id +client|unblock
```
"""


def page() -> str:
    """The whole page."""
    group: Any = typer.main.get_command(app)
    common = _common_options(group)
    parts = [HEAD, *_index(group), COMMON, *_table(common), ""]
    for functions in SECTIONS.values():
        for function in functions:
            name = function.__name__.rstrip("_").replace("_", "-")
            parts.append("\n".join(_command(group, name, function, common)))
    parts.append(TAIL)
    return "\n".join(parts)


def _index(group: Any) -> Iterator[str]:
    for section, functions in SECTIONS.items():
        names = [function.__name__.rstrip("_").replace("_", "-") for function in functions]
        links = ", ".join(f"[{name}](#{name})" for name in names if name in group.commands)
        yield f"- **{section}**: {links}"
    yield ""


def _common_options(group: Any) -> dict[str, str]:
    """The rows, with the option's name, that would stand there word for word for command after command."""
    rows = [(option.opts[0], _row(option)) for command in group.commands.values() for option in _options(command)]
    counts = Counter(rows)
    return {row: name for name, row in rows if counts[name, row] >= OFTEN}


def _options(command: Any) -> Iterator[Any]:
    yield from (parameter for parameter in command.params if parameter.param_type_name == "option" and _row(parameter))


def _command(group: Any, name: str, function: Any, common: Mapping[str, str]) -> Iterator[str]:
    command = group.commands[name]
    yield f"## {name}\n"
    yield from (f"{_paragraph(text)}\n" for text in (command.help or "").split("\n\n"))
    yield "```sh"
    lines = examples_of(function)
    width = max((len(line) for line, _ in lines), default=0)
    yield from (f"{line.ljust(width)}  # {what}" for line, what in lines)
    yield "```\n"
    rows = [row for parameter in command.params if (row := _row(parameter))]
    if own := [row for row in rows if row not in common]:
        yield from _table(own)
        yield ""
    if shared := [f"`{common[row]}`" for row in rows if row in common]:
        yield f"{'And' if own else 'Takes'} {', '.join(shared)}: [common options](#common-options).\n"


def _table(rows: Iterable[str]) -> Iterator[str]:
    yield "| | |\n|---|---|"
    yield from rows


def _paragraph(text: str) -> str:
    return re.sub(r"\s+", " ", text.replace("\b", "")).strip()


def _row(parameter: Any) -> str:
    """Written by us and not by typer, whose wording changes with its version."""
    if parameter.name == "help" or parameter.hidden:
        return ""
    text = parameter.help or ""
    if parameter.param_type_name == "argument":
        name = parameter.metavar or parameter.name.upper()
        name = name if parameter.required or name.startswith("[") else f"[{name}]"
    else:
        name = ", ".join([*parameter.opts, *parameter.secondary_opts])
    if parameter.envvar:
        text += f" Environment: `{parameter.envvar}`."
    if parameter.default not in (None, False, "") and not callable(parameter.default):
        text += f" Default: {parameter.default}."
    return f"| `{_cell(name)}` | {_cell(text)} |"


def _cell(text: str) -> str:
    # `|` would end the cell, even within backquotes.
    return _paragraph(text).replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(page())
