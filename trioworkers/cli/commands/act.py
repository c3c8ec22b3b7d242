"""The commands that act on jobs that wait: retry, run-now, requeue, bury, delete, purge.

One atomic step for each batch: they may be interrupted or killed at any moment, and run again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import click

from trioworkers.cli.commands.completion import complete
from trioworkers.cli.commands.examples import examples
from trioworkers.cli.commands.options import Namespace, Queue, Redis, Wheres
from trioworkers.cli.commands.parameters import Argument, Option
from trioworkers.wire import places
from trioworkers.wire.places import places_for, shown

if TYPE_CHECKING:
    from trioworkers.broker.people.acts import Act

Jids = Annotated[
    list[str] | None,
    Argument(
        metavar="[JID]...",
        help="Jobs in any place: a jid, or the beginning of a random jid (6 characters or more, if only one job has it).",
        complete=complete("jids"),
    ),
]


def _places(act: places.Act, last: str = "or") -> Option:
    return Option("--in", metavar="PLACE", help=f"Where: {shown(places_for(act), last)}.", complete=complete("places"))


RetryIn = Annotated[str | None, _places("retry")]
RunNowIn = Annotated[str | None, _places("run-now")]
RequeueIn = Annotated[str | None, _places("requeue", "or, with --to,")]
BuryIn = Annotated[str | None, _places("bury")]
DeleteIn = Annotated[str | None, _places("delete")]
All = Annotated[bool, Option("--all", help="All jobs in that place.")]
Yes = Annotated[bool, Option("--yes", "-y", help="Don't ask.")]
DryRun = Annotated[bool, Option("--dry-run", "-n", help="Only say how many jobs it would be.")]
To = Annotated[
    str | None,
    Option("--to", metavar="QUEUE", help="Into this queue instead of their own.", complete=complete("queues")),
]


@examples(
    ("trioworkers retry 0b5f2d6c1f9b4a3e8d7c6b5a", "this job, if it waits for a retry or is dead"),
    ("trioworkers retry --where 'error~timeout'", "jobs of the retry set that timed out"),
    ("trioworkers retry --all --in dead --yes", "replay the dead set"),
)
def retry(
    jids: Jids = None,
    *,
    in_: RetryIn = None,
    where: Wheres = None,
    all_: All = False,
    to: To = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    redis: Redis = None,
    namespace: Namespace = None,
) -> None:
    """Try failed jobs again now, waiting or dead.

    It works like Sidekiq's "retry now". The attempt does not count: a job that fails again goes back, with as many retries left as before. Default for --in: retry.
    """
    from trioworkers.broker.people import acts  # noqa: PLC0415 - `--help` should not wait for it

    _act(acts.retry(to), jids, in_, where, all_, yes, dry_run, redis, namespace)


@examples(
    ("trioworkers run-now 0b5f2d6c1f9b4a3e8d7c6b5a", "this job, before it is due"),
    ("trioworkers run-now --where class=Newsletter", "scheduled jobs of this class"),
    ("trioworkers run-now --all --in retry", "all retries at once"),
)
def run_now(
    jids: Jids = None,
    *,
    in_: RunNowIn = None,
    where: Wheres = None,
    all_: All = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    redis: Redis = None,
    namespace: Namespace = None,
) -> None:
    """Run scheduled jobs or retries now, not when due.

    Nothing else changes. Default for --in: scheduled.
    """
    from trioworkers.broker.people import acts  # noqa: PLC0415 - as above

    _act(acts.run_now(), jids, in_, where, all_, yes, dry_run, redis, namespace)


@examples(
    ("trioworkers requeue 0b5f2d6c1f9b4a3e8d7c6b5a", "one more attempt for a dead job"),
    ("trioworkers requeue --all --in queue:low --to high", "empty one queue into another"),
)
def requeue(
    jids: Jids = None,
    *,
    in_: RequeueIn = None,
    where: Wheres = None,
    all_: All = False,
    to: To = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    redis: Redis = None,
    namespace: Namespace = None,
) -> None:
    """Put dead jobs back into their queue as they are.

    It works like Sidekiq's "add to queue", and also takes retries and scheduled jobs. Used retries stay used: a dead job that fails again is dead again (`retry` gives the attempt back).
    With --to it also moves jobs from one queue into another. For a running job: `cancel --requeue`. Default for --in: dead.
    """
    from trioworkers.broker.people import acts  # noqa: PLC0415 - as above

    _act(acts.requeue(to), jids, in_, where, all_, yes, dry_run, redis, namespace)


@examples(
    ("trioworkers bury 0b5f2d6c1f9b4a3e8d7c6b5a", "don't run it, but keep it"),
    ("trioworkers bury --in queue:track --where class=Broken", "jobs of this class that wait"),
)
def bury(
    jids: Jids = None,
    *,
    in_: BuryIn = None,
    where: Wheres = None,
    all_: All = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    redis: Redis = None,
    namespace: Namespace = None,
) -> None:
    """Move jobs that wait to the dead set.

    It works like Sidekiq's "kill": the jobs don't change. The dead set keeps the latest 9,999 jobs for 180 days. For a running job: `cancel`.
    """
    from trioworkers.broker.people import acts  # noqa: PLC0415 - as above

    _act(acts.bury(), jids, in_, where, all_, yes, dry_run, redis, namespace)


@examples(
    ("trioworkers delete 0b5f2d6c1f9b4a3e8d7c6b5a", "for ever"),
    ("trioworkers delete --in dead --where 'age>30d' --yes", "clean up, from cron"),
    ("trioworkers delete --in queue:track --where 'args~spam' --dry-run", "how many would it be?"),
)
def delete(
    jids: Jids = None,
    *,
    in_: DeleteIn = None,
    where: Wheres = None,
    all_: All = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    redis: Redis = None,
    namespace: Namespace = None,
) -> None:
    """Delete jobs that wait.

    They are gone for ever. To keep them, `export` them first. For a running job: `cancel --discard`.
    """
    from trioworkers.broker.people import acts  # noqa: PLC0415 - as above

    _act(acts.delete(), jids, in_, where, all_, yes, dry_run, redis, namespace)


def _act(
    act: Act,
    jids: list[str] | None,
    in_: str | None,
    where: list[str] | None,
    all_: bool,
    yes: bool,
    dry_run: bool,
    redis: str | None,
    namespace: str | None,
) -> None:
    from trioworkers.cli.move_jobs import Chosen, act_on, location_of  # noqa: PLC0415 - as above
    from trioworkers.cli.session import in_session  # noqa: PLC0415 - as above
    from trioworkers.cli.where import parse_where  # noqa: PLC0415 - as above

    if sum(map(bool, (jids, where, all_))) != 1 or (jids and in_):
        raise click.BadParameter("which jobs? Give JIDs, or --where FILTER, or --all; one of these")
    source = None if jids else location_of(in_, act)
    chosen = Chosen(jids or (), source, parse_where(where or ()), yes, dry_run)
    in_session(lambda session: act_on(session, act, chosen), redis, namespace, "in turn")


@examples(
    ("trioworkers purge track", "asks first"),
    ("trioworkers purge track --yes", "doesn't ask"),
)
def purge(
    queue: Queue,
    *,
    yes: Yes = False,
    redis: Redis = None,
    namespace: Namespace = None,
) -> None:
    """Delete a queue with all jobs that wait in it.

    It begins with the job that is next in turn. Jobs that are sent meanwhile stay. Running jobs go on.
    """
    from trioworkers.cli.move_jobs import purge as purge_queue  # noqa: PLC0415 - as above
    from trioworkers.cli.session import in_session  # noqa: PLC0415 - as above

    in_session(lambda session: purge_queue(session, queue, yes=yes), redis, namespace, "in turn")
