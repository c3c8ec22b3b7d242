"""The commands about batches: batches, batch."""

from __future__ import annotations

from typing import Annotated

import click

from trioworkers.cli.commands.examples import examples
from trioworkers.cli.commands.options import Json, Limit, Namespace, Redis
from trioworkers.cli.commands.parameters import Argument


@examples(
    ("trioworkers batches", "with their state: open, running, over, or with dead members"),
    ("trioworkers batches --json | jq -r 'select(.state == \"open\").batch'", "the batches that nobody has sealed"),
)
def batches(*, limit: Limit = 25, json: Json = False, redis: Redis = None, namespace: Namespace = None) -> None:
    """Show batches, the one that changed last first.

    A batch that is over is forgotten a day later. A batch with dead members is forgotten when these are retried or deleted, or after 180 days. An open batch still gets members
    from its program. If that program died, end the batch with `batch cancel`.
    """
    from trioworkers.cli import batch_list  # noqa: PLC0415 - `--help` should not wait for it
    from trioworkers.cli.session import in_session  # noqa: PLC0415 - as above

    in_session(lambda session: batch_list.listed(session, limit=limit, as_json=json), redis, namespace)


@examples(
    ("trioworkers batch 1f0c9c6e3a5b", "how far it is, and where its members are"),
    ("trioworkers batch retry 1f0c9c6e3a5b", "its dead members are tried again"),
    ("trioworkers batch cancel 1f0c9c6e3a5b", "waiting members are deleted, running ones are cancelled"),
)
def batch(
    words: Annotated[
        list[str],
        Argument(metavar="[cancel|retry] BATCH", help="The id of a batch, alone or after cancel or retry."),
    ],
    *,
    json: Json = False,
    redis: Redis = None,
    namespace: Namespace = None,
) -> None:
    """Show one batch, cancel it, or retry its dead members.

    `cancel`: the batch takes no more members. Members that wait are deleted. Members that run are cancelled and discarded. The same happens to batches within it. Then
    its `on_finished` is sent, but not its `on_success`. Status 1: the batch is over.
    """
    from trioworkers.cli import batch_list  # noqa: PLC0415 - as above
    from trioworkers.cli.session import in_session  # noqa: PLC0415 - as above

    match words:
        case ["cancel", name]:
            in_session(lambda session: batch_list.stop(session, name), redis, namespace)
        case ["retry", name]:
            in_session(lambda session: batch_list.again(session, name), redis, namespace)
        case [name]:
            in_session(lambda session: batch_list.show(session, name, as_json=json), redis, namespace)
        case _:
            raise click.BadParameter("BATCH, cancel BATCH or retry BATCH")
