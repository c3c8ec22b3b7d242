"""The commands that look: ps, queues, jobs, one for each place that can be listed, show, stats. They change nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from trioworkers.cli.commands.completion import complete
from trioworkers.cli.commands.examples import examples
from trioworkers.cli.commands.options import Jid, Json, Limit, Namespace, Queue, Redis, Wheres, a_number
from trioworkers.cli.commands.parameters import Argument, Option
from trioworkers.wire.places import Location, Place, all_places


@examples(
    ("trioworkers ps", "all processes, Ruby's too, and what they run"),
    ("trioworkers ps w1 --tree", "where each job of w1 waits: its tasks, with their lines"),
    ("trioworkers ps --json | jq .identity", "for scripts"),
)
def ps(
    process: Annotated[
        str | None,
        Argument(
            metavar="PROCESS",
            help="Only this process: its process id, or the beginning of its identity.",
            complete=complete("processes"),
        ),
    ] = None,
    *,
    tree: Annotated[
        bool,
        Option("--tree", help="Ask our workers in which line each job waits. They have 3 seconds to answer."),
    ] = False,
    limit: Limit = 25,
    json: Json = False,
    redis: Redis = None,
    namespace: Namespace = None,
) -> None:
    """Show processes, the jobs that they run, and where these wait.

    The running jobs are those of the last heartbeat, at most 5 to 10 seconds ago. With --tree the workers are asked now. A worker whose event loop is
    blocked does not answer. Its own log says where it is blocked.
    """
    from trioworkers.cli import process_list  # noqa: PLC0415 - `--help` should not wait for it
    from trioworkers.cli.session import in_sessions  # noqa: PLC0415 - as above

    in_sessions(
        lambda sessions: process_list.ps(sessions, process, tree=tree, limit=limit, as_json=json), redis, namespace
    )


@examples(
    ("trioworkers queues", "size, latency, rate and consumers of each"),
    ("trioworkers queues --json | jq -r 'select(.size > 1000).queue'", "the long ones"),
)
def queues(*, json: Json = False, redis: Redis = None, namespace: Namespace = None) -> None:
    """Show queues: size, parked jobs, latency, rate, consumers.

    Latency: how long the next job has waited. Rate: jobs that our workers settled in a second, measured over their last heartbeat's
    interval. Slots: how many of its jobs the live processes may run at once.
    """
    from trioworkers.cli import lists  # noqa: PLC0415 - as above
    from trioworkers.cli.session import in_session  # noqa: PLC0415 - as above

    in_session(lambda session: lists.queues(session, as_json=json), redis, namespace)


@examples(
    ("trioworkers jobs track", "the job that is fetched next comes first"),
    ("trioworkers jobs track --where class=TrackUserJob --where 'age>1h'", "both must hold"),
    ("trioworkers jobs track --limit 0 --json", "all of them, one by one"),
)
def jobs(
    queue: Queue,
    *,
    where: Wheres = None,
    limit: Limit = 25,
    json: Json = False,
    redis: Redis = None,
    namespace: Namespace = None,
) -> None:
    """Show the jobs in a queue, next to be fetched first."""
    _list("queue", queue, where, limit, json, redis, namespace)


_EXAMPLES = {
    "retries": (
        ("trioworkers retries", "the job that is tried next comes first"),
        (
            "trioworkers retries --where 'error~timeout' --where 'attempt>3'",
            "jobs that timed out, after more than 3 attempts",
        ),
    ),
    "scheduled": (
        ("trioworkers scheduled", "the job that is due next comes first"),
        ("trioworkers scheduled --where 'due<10m'", "jobs of the next ten minutes"),
    ),
    "dead": (
        ("trioworkers dead", "the latest first"),
        ("trioworkers dead --where error=trioworkers.WorkerDied --limit 0", "all jobs that killed their workers"),
    ),
}


def _lister(place: Place) -> Callable[..., None]:
    """The command that lists a place: all that differs stands in the table of places."""

    def listed(
        *,
        where: Wheres = None,
        limit: Limit = 25,
        json: Json = False,
        redis: Redis = None,
        namespace: Namespace = None,
    ) -> None:
        _list(place.name, "", where, limit, json, redis, namespace)

    listed.__name__, listed.__doc__ = place.command, place.about
    usual = (
        (f"trioworkers {place.command}", "the latest first" if place.latest_first else "in their order"),
        (f"trioworkers {place.command} --where class=TrackUserJob --json", "for scripts"),
    )
    return examples(*_EXAMPLES.get(place.command, usual))(listed)


LISTS = {place.command: _lister(place) for place in all_places() if place.command}
"""One command for each place that has one."""


def __getattr__(name: str) -> Callable[..., None]:
    if name not in LISTS:
        raise AttributeError(name)
    return LISTS[name]


def _list(
    place: str,
    queue: str,
    where: list[str] | None,
    limit: int,
    json: bool,
    redis: str | None,
    namespace: str | None,
) -> None:
    from trioworkers.cli import lists  # noqa: PLC0415 - as above
    from trioworkers.cli.session import in_session  # noqa: PLC0415 - as above
    from trioworkers.cli.where import parse_where  # noqa: PLC0415 - as above

    source, wanted = Location(place, queue), parse_where(where or ())
    in_session(
        lambda session: lists.entries(session, source, wanted, limit=limit, as_json=json),
        redis,
        namespace,
        "at once" if limit else "in turn",
    )


@examples(
    ("trioworkers show 0b5f2d6c1f9b4a3e8d7c6b5a", "a job in any place"),
    ("trioworkers show 0b5f2d6c", "the job whose jid begins with this"),
    ("trioworkers show 0b5f2d6c1f9b4a3e8d7c6b5a --json | jq -r .payload", "its payload"),
)
def show(
    jid: Jid,
    *,
    json: Json = False,
    redis: Redis = None,
    namespace: Namespace = None,
) -> None:
    """Show everything about one job, in any place.

    You see its payload, attempts, times, and last error with its backtrace. If it runs, you see in which line it waits.
    """
    from trioworkers.cli import one_job  # noqa: PLC0415 - as above
    from trioworkers.cli.session import in_session  # noqa: PLC0415 - as above

    in_session(lambda session: one_job.show(session, jid, as_json=json), redis, namespace)


@examples(
    ("trioworkers stats", "counters and sizes"),
    ("trioworkers stats --watch", "live, with rates; Ctrl-C ends it"),
    ("trioworkers stats --watch --every 10 --json", "a line every ten seconds"),
)
def stats(
    *,
    watch: Annotated[bool, Option("--watch", help="Show it again and again, with rates, until Ctrl-C.")] = False,
    every: Annotated[float, Option(min=0.1, callback=a_number, help="Seconds between two looks.")] = 1.0,
    json: Json = False,
    redis: Redis = None,
    namespace: Namespace = None,
) -> None:
    """Show how many jobs are where, and how many were done.

    The numbers are of all processes together, Ruby's and ours.
    """
    from trioworkers.cli import totals  # noqa: PLC0415 - as above
    from trioworkers.cli.session import in_sessions  # noqa: PLC0415 - as above

    in_sessions(
        lambda sessions: totals.stats(sessions, every_s=every if watch else None, as_json=json), redis, namespace
    )
