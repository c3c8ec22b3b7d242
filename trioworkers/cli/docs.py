"""Writes docs/cli.md from the commands themselves: `make docs`. A test sees to it that the page is current."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from trioworkers.cli.commands import SECTIONS, every_command, function_of
from trioworkers.cli.commands.examples import examples_of

HEAD = """\
# The command line

<!-- Written by `make docs` from the commands themselves. -->

`trioworkers COMMAND --help` shows the same. `python -m trioworkers` is the same as `trioworkers`.
`trioworkers --install-completion` installs completion for bash, zsh or fish. It completes commands and options. From Redis it completes names of queues,
classes and processes, and the jids of the first jobs of each place.

**Which Redis.** A command uses the first of these that is given:

- `run`: `--redis`, the `App`, `REDIS_URL`, `redis://localhost:6379/0`.
- `dev`: the same. If no server answers at the last address, `dev` starts one.
- all others: `--redis`, `REDIS_URL`, the Redis of a `trioworkers dev` that runs in this directory or one above, `redis://localhost:6379/0`.

<a name="status"></a>**Exit status.**

| | |
|---|---|
| 0 | done. For `run` and `dev` also: stopped by a signal |
| 1 | failed. One line on stderr says why: no Redis, a wrong password, no such job or file, several jobs whose jids begin so, nobody there to say yes, a job that does not stop. For `doctor`: a problem was found |
| 2 | wrong usage: a command, option, filter, value or environment variable that can't be right, for any content of Redis. Nothing was read or done |
| 130 | interrupted by Ctrl-C. Steps that were done stay done. The others were not begun |

**Log.** `run` and `dev` write to stderr. Each job has a line `start`, and then a line `done`, `fail` or `stop`, with class, jid, queue, attempt and the time it took.
The line of a failure also says what is `next`, and has a traceback that begins in your code. Arguments are never logged. `--log-level warning` keeps only
lines about trouble. `--log-format logfmt` and `json` write fields: `time level logger pid message class jid queue attempt elapsed error next traceback`.
There are colours only on a terminal. `NO_COLOR` and `FORCE_COLOR` change that.

**Times.** People get local time. `show` adds the distance from UTC. Other commands give lengths of time. Machines get UTC: epoch seconds in `--json`, and ISO 8601 in
a log that doesn't go to a terminal. `stats` counts days in UTC, as Sidekiq does.
"""

OFTEN = 3
"""An option that as many commands have, with the same words, is explained once."""

COMMON = """\
## Common options
"""

TAIL = """\
## A Redis user for workers

This user may do what workers and these commands need, and no more. With a namespace you can write `~NAMESPACE:*` and `&NAMESPACE:*` instead of `~*` and `&*`. `trioworkers doctor` says which permissions are missing.
`&*` is for clients that wait for results. Without it they get a result half a second later.

<!-- not run: a command of Redis; tests/broker/test_namespace.py gives it with keys of its own -->

```text
ACL SETUSER worker on >PASSWORD ~* &* +@all -@admin -@dangerous +info +config|get +client|id +client|unblock
```
"""


def page() -> str:
    """The whole page."""
    commands = every_command()
    common = _common_options(commands)
    parts = [HEAD, *_index(commands), COMMON, *_table(common), ""]
    for names in SECTIONS.values():
        parts += ["\n".join(_command(commands, name, function_of(name), common)) for name in names]
    parts.append(TAIL)
    return "\n".join(parts)


def _index(commands: Mapping[str, Any]) -> Iterator[str]:
    for section, names in SECTIONS.items():
        links = ", ".join(f"[{name}](#{name})" for name in names if name in commands)
        yield f"- **{section}**: {links}"
    yield ""


def _common_options(commands: Mapping[str, Any]) -> dict[str, str]:
    """The rows, with the option's name, that would stand there word for word for command after command."""
    rows = [(option.opts[0], _row(option)) for command in commands.values() for option in _options(command)]
    counts = Counter(rows)
    return {row: name for name, row in rows if counts[name, row] >= OFTEN}


def _options(command: Any) -> Iterator[Any]:
    yield from (parameter for parameter in command.params if parameter.param_type_name == "option" and _row(parameter))


def _command(commands: Mapping[str, Any], name: str, function: Any, common: Mapping[str, str]) -> Iterator[str]:
    command = commands[name]
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
    """Written by us and not by click, whose wording changes with its version."""
    if parameter.name == "help":
        return ""
    text = parameter.help or ""
    if parameter.param_type_name == "argument":
        name = parameter.metavar or parameter.name.upper()
        name = name if parameter.required or name.startswith("[") else f"[{name}]"
    else:
        name = ", ".join([*parameter.opts, *parameter.secondary_opts])
    if parameter.envvar:
        text += f" Environment: `{parameter.envvar}`."
    if isinstance(parameter.default, str | int | float) and parameter.default not in (False, ""):
        text += f" Default: {parameter.default}."
    return f"| `{_cell(name)}` | {_cell(text)} |"


def _cell(text: str) -> str:
    # `|` would end the cell, even within backquotes.
    return _paragraph(text).replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(page())
