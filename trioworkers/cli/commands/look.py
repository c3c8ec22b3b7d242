"""The commands that look: ps, queues, jobs, one for each place that can be listed, show, stats. They change nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from trioworkers.cli.commands.completion import complete
from trioworkers.cli.commands.examples import examples
from trioworkers.cli.commands.options import Jid, Json, Limit, Namespace, Queue, Redis, Wheres, a_number
from trioworkers.wire.places import Location, Place, all_places


@examples(
    ("trioworkers ps", "all processes, Ruby's too, and what they run"),
    ("trioworkers ps w1 --tree", "where the jobs of w1 await: the tasks of each, with their lines"),
    ("trioworkers ps --json | jq .identity", "for scripts"),
)
def ps(
    process: Annotated[
        str | None,
        typer.Argument(
            metavar="PROCESS",
            help="Only this one: its process id, or how its identity begins.",
            autocompletion=complete("processes"),
        ),
    ] = None,
    *,
    tree: Annotated[
        bool, typer.Option("--tree", help="Ask our workers where each job awaits; answered within 3 seconds.")
    ] = False,
    limit: Limit = 25,
    json: Json = False,
    redis: Redis = None,
    namespace: Namespace = None,
) -> None:
    """Show processes, what they run and where it awaits.

    What runs is as of the last heartbeat, 5 to 10 seconds ago at most; with --tree it is asked now. A worker whose event loop is
    blocked does not answer; its own log says where it is.
    """
    from trioworkers.cli import process_list  # noqa: PLC0415 - `--help` should not wait for it
    from trioworkers.cli.session import in_session  # noqa: PLC0415 - as above

    in_session(
        lambda session: process_list.ps(session, process, tree=tree, limit=limit, as_json=json), redis, namespace
    )


@examples(
    ("trioworkers queues", "size, latency, rate and consumers of each"),
    ("trioworkers queues --json | jq -r 'select(.size > 1000).queue'", "those that are long"),
)
def queues(*, json: Json = False, redis: Redis = None, namespace: Namespace = None) -> None:
    """Show queues: size, parked jobs, latency, rate, consumers.

    Latency: how long the job that is fetched next has waited. Rate: jobs settled a second by our workers, in their last heartbeat's
    interval. Slots: how many jobs of it the live processes may run at once.
    """
    from trioworkers.cli import lists  # noqa: PLC0415 - as above
    from trioworkers.cli.session import in_session  # noqa: PLC0415 - as above

    in_session(lambda session: lists.queues(session, as_json=json), redis, namespace)


@examples(
    ("trioworkers jobs track", "what is fetched next comes first"),
    ("trioworkers jobs track --where class=TrackUserJob --where 'age>1h'", "both must hold"),
    ("trioworkers jobs track --limit 0 --json", "all of them, as they come"),
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
        ("trioworkers retries", "the next to be tried first"),
        ("trioworkers retries --where 'error~timeout' --where 'attempt>3'", "that time out again and again"),
    ),
    "scheduled": (
        ("trioworkers scheduled", "the next to run first"),
        ("trioworkers scheduled --where 'due<10m'", "in the next ten minutes"),
    ),
    "dead": (
        ("trioworkers dead", "the latest first"),
        ("trioworkers dead --where error=trioworkers.WorkerDied --limit 0", "all that killed their workers"),
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


LISTS = tuple(_lister(place) for place in all_places() if place.command)
"""One command for each place that has one."""


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
    in_session(lambda session: lists.entries(session, source, wanted, limit=limit, as_json=json), redis, namespace)


@examples(
    ("trioworkers show 0b5f2d6c1f9b4a3e8d7c6b5a", "wherever it is"),
    ("trioworkers show 0b5f2d6c", "the job whose jid begins so"),
    ("trioworkers show 0b5f2d6c1f9b4a3e8d7c6b5a --json | jq -r .payload", "its payload"),
)
def show(
    jid: Jid,
    *,
    json: Json = False,
    redis: Redis = None,
    namespace: Namespace = None,
) -> None:
    """Show all that is known of one job, wherever it is.

    Payload, attempts, times, the last error with its backtrace; and while it runs, where it awaits.
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
    watch: Annotated[bool, typer.Option("--watch", help="Go on, with rates, until Ctrl-C.")] = False,
    every: Annotated[float, typer.Option(min=0.1, callback=a_number, help="Seconds between two looks.")] = 1.0,
    json: Json = False,
    redis: Redis = None,
    namespace: Namespace = None,
) -> None:
    """Show what is where and how much was done.

    Of all processes together, Ruby's and ours.
    """
    from trioworkers.cli import totals  # noqa: PLC0415 - as above
    from trioworkers.cli.session import in_sessions  # noqa: PLC0415 - as above

    in_sessions(
        lambda sessions: totals.stats(sessions, every_s=every if watch else None, as_json=json), redis, namespace
    )
