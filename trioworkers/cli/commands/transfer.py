"""`trioworkers export` and `trioworkers import`: jobs that wait, as JSON lines, to be kept and replayed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import click

from trioworkers.cli.commands.completion import complete
from trioworkers.cli.commands.examples import examples
from trioworkers.cli.commands.options import Namespace, Redis, Wheres
from trioworkers.cli.commands.parameters import Argument, Option
from trioworkers.wire.places import places_for, shown


@examples(
    ("trioworkers export dead > dead.jsonl", "keep the dead set"),
    ("trioworkers export queue:track --where class=TrackUserJob -o track.jsonl", "part of a queue"),
    ("trioworkers export dead | gzip > dead.jsonl.gz", "any tool for text will do"),
    ("trioworkers export cron > cron.jsonl", "periodic jobs that exist only in Redis, paused ones, too"),
)
def export(
    place: Annotated[
        str,
        Argument(metavar="PLACE", help=f"{shown(places_for('export'))}; or cron.", complete=complete("places")),
    ],
    *,
    where: Wheres = None,
    output: Annotated[
        Path | None,
        Option("-o", "--output", help="A file. It appears when it is complete. Default: standard output."),
    ] = None,
    redis: Redis = None,
    namespace: Namespace = None,
) -> None:
    """Write jobs as JSON lines; they stay where they are.

    A line has `in` (the place), `queue` or `score`, and the exact `payload` (or `payload_base64` if it is no
    UTF-8). Jobs of a queue come in the order of fetching. Jobs that are fetched meanwhile may be missed, so `pause` a busy queue first.

    `cron` means periodic jobs that exist only in Redis. Those of code come with the code. The history of runs is not exported.
    """
    from trioworkers.cli import json_lines  # noqa: PLC0415 - `--help` should not wait for it
    from trioworkers.cli.session import in_session  # noqa: PLC0415 - as above
    from trioworkers.cli.where import parse_where  # noqa: PLC0415 - as above

    if place == "cron":
        if where:
            raise click.BadParameter("--where chooses jobs, and cron has none")
        with json_lines.sink_for(output) as sink:
            in_session(lambda session: json_lines.export_periodic(session, sink), redis, namespace, "in turn")
        return
    source, wanted = json_lines.location_of(place), parse_where(where or ())
    with json_lines.sink_for(output) as sink:
        in_session(lambda session: json_lines.export(session, source, wanted, sink), redis, namespace, "in turn")


@examples(
    ("trioworkers import dead.jsonl", "back where they were"),
    ("zcat dead.jsonl.gz | trioworkers import -", "from a pipe"),
)
def import_(
    file: Annotated[str, Argument(metavar="FILE", help="What `export` wrote; - for standard input.")],
    *,
    redis: Redis = None,
    namespace: Namespace = None,
) -> None:
    """Put exported jobs back where they were.

    You may import a file twice. A job that a set has already stays as it is. A job that went into a queue from this file is not put there
    again for a week. So run an interrupted import again. To replay a dead set: import, then `retry --all --in dead`.

    A unique job takes its lock if the lock is free. If another job has it, the job comes back without a lock. When it is fetched, it runs if the other job has ended. If not, it
    goes to dead. A periodic job is due from now on, or stays paused. If there is one of its name, that one stays as it is.
    """
    from trioworkers.cli import json_lines  # noqa: PLC0415 - as above
    from trioworkers.cli.session import in_session  # noqa: PLC0415 - as above

    in_session(lambda session: json_lines.import_(session, file), redis, namespace)
