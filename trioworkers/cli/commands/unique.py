"""The command for the locks of unique jobs: list them, show one, let one go."""

from __future__ import annotations

from typing import Annotated

from trioworkers.cli.commands.examples import examples
from trioworkers.cli.commands.options import Json, Limit, Namespace, Redis
from trioworkers.cli.commands.parameters import Argument, Option


@examples(
    ("trioworkers unique", "the locks, the jobs that have them, and for how long"),
    ("trioworkers unique show SyncJob:2f0c9d1e8b7a6c5d4e3f2a1b0c9d8e7f", "one lock, and where its job is"),
    (
        "trioworkers unique release SyncJob:2f0c9d1e8b7a6c5d4e3f2a1b0c9d8e7f",
        "give it back; a worker notes this in its log",
    ),
)
def unique(
    action: Annotated[str | None, Argument(metavar="[show|release]", help="What to do with one lock.")] = None,
    key: Annotated[str | None, Argument(metavar="[LOCK]", help="The lock, as `unique` lists it.")] = None,
    *,
    yes: Annotated[bool, Option("--yes", "-y", help="Don't ask.")] = False,
    limit: Limit = 25,
    json: Json = False,
    redis: Redis = None,
    namespace: Namespace = None,
) -> None:
    """Show the locks of unique jobs, or give one back.

    A lock is given back when its job ends in any way, so you seldom need `release`. A job that was to follow then goes to its queue.
    """
    from trioworkers.cli import unique_locks  # noqa: PLC0415 - `--help` should not wait for it
    from trioworkers.cli.session import in_session  # noqa: PLC0415 - as above
    from trioworkers.errors import WrongUsage  # noqa: PLC0415 - as above

    if action not in (None, "show", "release"):
        raise WrongUsage(f"unique takes show or release, not {action!r}")
    if (action is None) is not (key is None):
        raise WrongUsage(f"unique {action} wants to know which lock: `trioworkers unique` lists them")
    if action is None or key is None:
        in_session(lambda session: unique_locks.listed(session, limit=limit, as_json=json), redis, namespace)
    elif action == "show":
        in_session(lambda session: unique_locks.show(session, key, as_json=json), redis, namespace)
    else:
        in_session(lambda session: unique_locks.release(session, key, yes=yes), redis, namespace, "in turn")
