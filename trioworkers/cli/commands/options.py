"""Options that many commands share."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import click

from trioworkers.cli.commands.completion import complete
from trioworkers.cli.commands.parameters import Argument, Option


def a_number(value: float | None) -> float | None:
    """A callback for what `min` lets pass: nan is neither more nor less than anything. Raises BadParameter."""
    if value is not None and math.isnan(value):
        raise click.BadParameter("nan is no number")
    return value


Target = Annotated[
    str,
    Argument(metavar="TARGET", help="Where the App is: MODULE:ATTRIBUTE (handlers:app), or a file (app.py)."),
]
JID_HELP = (
    "The job's id, or the beginning of a random id (6 characters or more, if only one job has it). ActiveJob's id, too."
)
Jid = Annotated[
    str,
    Argument(
        metavar="JID",
        help=JID_HELP,
        complete=complete("jids"),
    ),
]
Queue = Annotated[str, Argument(metavar="QUEUE", help="The queue's name.", complete=complete("queues"))]
Redis = Annotated[
    str | None,
    Option(
        help="redis://, rediss://, redis+sentinel://, redis+cluster:// or unix://; or MODULE:APP for the App's Redis or shards; or MODULE:APP@SHARD for one shard. Default: REDIS_URL, the Redis of a `trioworkers dev` that runs here, or redis://localhost:6379/0."
    ),
]
Namespace = Annotated[
    str | None,
    Option(envvar="TRIOWORKERS_NAMESPACE", help="A text before all keys in Redis.", show_default=False),
]
Json = Annotated[bool, Option("--json", help="JSON for scripts instead of text for people.")]
LogFormat = Annotated[
    Literal["text", "logfmt", "json"],
    Option(envvar="TRIOWORKERS_LOG_FORMAT", help="text: for people, in colours on a terminal."),
]
LogLevel = Annotated[
    Literal["debug", "info", "warning", "error"],
    Option(envvar="TRIOWORKERS_LOG_LEVEL", help="info: two lines for each job; warning: only lines about trouble."),
]
Limit = Annotated[int, Option(min=0, help="The largest number of rows; 0 for all.")]
Wheres = Annotated[
    list[str] | None,
    Option(
        "--where",
        metavar="FILTER",
        help="FIELD OP VALUE. If it is given several times, all must hold. Texts (class, queue, jid, error, args, tag, process): = != ~ !~, "
        "where ~ is a regular expression. Numbers (attempt, size, age, due): = != > >= < <=, like attempt>3, age>1h, size>10k.",
    ),
]
