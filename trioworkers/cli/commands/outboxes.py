"""The command for what waits in one shard for others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from trioworkers.cli.commands.examples import examples
from trioworkers.cli.commands.options import Json, Limit, Namespace, Redis
from trioworkers.cli.commands.parameters import Argument, Option


@examples(
    ("trioworkers outboxes --redis handlers:app", "what waits for other shards, and since when"),
    ("trioworkers outboxes show eu --redis handlers:app", "which jobs these are"),
    ("trioworkers outboxes export eu > jobs.jsonl", "write them out; `import` takes them"),
    ("trioworkers outboxes skip eu > job.jsonl", "give up the first, which can't go"),
)
def outboxes(
    action: Annotated[str | None, Argument(metavar="[show|export|skip]", help="What to do with one outbox.")] = None,
    shard: Annotated[str | None, Argument(metavar="[SHARD]", help="The shard for which it waits.")] = None,
    *,
    yes: Annotated[bool, Option("--yes", "-y", help="Don't ask.")] = False,
    output: Annotated[Path | None, Option("--output", "-o", help="export: a file instead of standard output.")] = None,
    limit: Limit = 25,
    json: Json = False,
    redis: Redis = None,
    namespace: Namespace = None,
) -> None:
    """Show what jobs in one shard enqueued into another one, and what has not arrived there.

    A worker that has both shards moves it over within milliseconds, in its order. It waits while the other shard is away, or refuses the first of it: a worker's log says why. To `skip` gives up
    the first entry, which is all that one job enqueued there, and writes its jobs as `export` does.
    """
    from trioworkers.cli import outbox_list  # noqa: PLC0415 - `--help` should not wait for it
    from trioworkers.cli.json_lines import sink_for  # noqa: PLC0415 - as above
    from trioworkers.cli.session import in_session  # noqa: PLC0415 - as above
    from trioworkers.errors import WrongUsage  # noqa: PLC0415 - as above

    if action not in (None, "show", "export", "skip"):
        raise WrongUsage(f"outboxes takes show, export or skip, not {action!r}")
    if (action is None) is not (shard is None):
        raise WrongUsage(f"outboxes {action} wants to know for which shard: `trioworkers outboxes` lists them")
    if action is None or shard is None:
        in_session(lambda session: outbox_list.listed(session, as_json=json), redis, namespace)
    elif action == "show":
        in_session(
            lambda session: outbox_list.show(session, shard, limit=limit, as_json=json),
            redis,
            namespace,
            "at once" if limit else "in turn",
        )
    elif action == "export":
        with sink_for(output) as sink:
            in_session(lambda session: outbox_list.export(session, shard, sink), redis, namespace, "in turn")
    else:
        in_session(lambda session: outbox_list.skip_first(session, shard, yes=yes), redis, namespace, "in turn")
