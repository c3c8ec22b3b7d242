"""The commands that speak to running workers: cancel, pause, resume, quiet, stop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import click

from trioworkers.cli.commands.completion import complete
from trioworkers.cli.commands.examples import examples
from trioworkers.cli.commands.options import JID_HELP, Namespace, Redis
from trioworkers.cli.commands.parameters import Argument, Option

if TYPE_CHECKING:
    from trioworkers.wire.control_messages import Fate

Queues = Annotated[list[str] | None, Argument(metavar="[QUEUE]...", help="Queues.", complete=complete("queues"))]
Paused = Annotated[list[str] | None, Argument(metavar="[QUEUE]...", help="Queues.", complete=complete("paused_queues"))]
Classes = Annotated[
    list[str] | None,
    Option(
        "--class",
        metavar="CLASS",
        help="A class instead; may be repeated.",
        complete=complete("classes"),
    ),
]
PausedClasses = Annotated[
    list[str] | None,
    Option(
        "--class",
        metavar="CLASS",
        help="A class instead; may be repeated.",
        complete=complete("paused_classes"),
    ),
]
Processes = Annotated[
    list[str] | None,
    Argument(
        metavar="[PROCESS]...",
        help="A process id, or the beginning of an identity (see `trioworkers ps`).",
        complete=complete("processes"),
    ),
]
Everyone = Annotated[bool, Option("--all", help="All processes that there are now.")]


@examples(
    ("trioworkers cancel 0b5f2d6c1f9b4a3e8d7c6b5a", "stop it; it goes to the dead set"),
    ("trioworkers cancel 0b5f2d6c1f9b4a3e8d7c6b5a --requeue", "stop it; it runs again soon, maybe elsewhere"),
)
def cancel(
    jid: Annotated[str, Argument(metavar="JID", help=JID_HELP, complete=complete("running_jids"))],
    *,
    discard: Annotated[bool, Option("--discard", help="Forget the job.")] = False,
    requeue: Annotated[bool, Option("--requeue", help="Put it back into its queue.")] = False,
    redis: Redis = None,
    namespace: Namespace = None,
) -> None:
    """Stop a running job, on any worker.

    Its scope is cancelled, and its CPU work is killed. The worker receives the message within about a second, and has 5 seconds to answer. The job
    goes to the dead set with the reason "cancelled by an operator". There you can look at it, and it doesn't run again by itself.
    Status 1: the job isn't running, runs in Ruby, or does not stop when it is cancelled.
    """
    from trioworkers.cli import control_workers  # noqa: PLC0415 - `--help` should not wait for it
    from trioworkers.cli.session import in_session  # noqa: PLC0415 - as above

    if discard and requeue:
        raise click.BadParameter("either --discard or --requeue")
    then: Fate = "discard" if discard else "requeue" if requeue else "bury"
    in_session(lambda session: control_workers.cancel(session, jid, then), redis, namespace)


@examples(
    ("trioworkers pause track", "no worker fetches from it any more"),
    ("trioworkers pause --class TrackUserJob", "other jobs on its queue go on"),
)
def pause(queues: Queues = None, *, classes: Classes = None, redis: Redis = None, namespace: Namespace = None) -> None:
    """Pause a queue or a class, for all workers.

    Workers receive this within a second, idle workers within 2.5 seconds. It also holds for workers that start later. Redis keeps it until `resume`. Running jobs go on.
    Jobs of a paused class are held in the schedule set. No attempt is counted. Every 5 to 8 minutes they are checked again.
    A paused queue is in the set that Sidekiq Pro uses. The open Sidekiq shows it (from 8.1.1 on), but still fetches from the queue.
    """
    from trioworkers.cli import control_workers  # noqa: PLC0415 - as above
    from trioworkers.cli.session import in_session  # noqa: PLC0415 - as above

    _need(queues, classes)
    in_session(lambda session: control_workers.pause(session, queues or (), classes or ()), redis, namespace)


@examples(
    ("trioworkers resume track", "fetched again within 2.5 seconds"),
    ("trioworkers resume --class TrackUserJob", "held jobs are back in their queue, too"),
)
def resume(
    queues: Paused = None, *, classes: PausedClasses = None, redis: Redis = None, namespace: Namespace = None
) -> None:
    """Resume a queue or a class that was paused."""
    from trioworkers.cli import control_workers  # noqa: PLC0415 - as above
    from trioworkers.cli.session import in_session  # noqa: PLC0415 - as above

    _need(queues, classes)
    in_session(lambda session: control_workers.resume(session, queues or (), classes or ()), redis, namespace)


def _need(queues: list[str] | None, classes: list[str] | None) -> None:
    if not queues and not classes:
        raise click.BadParameter("what? Give a QUEUE, or --class CLASS")


@examples(("trioworkers quiet w1", "before a deploy"), ("trioworkers quiet --all", "all processes"))
def quiet(
    processes: Processes = None, *, everyone: Everyone = False, redis: Redis = None, namespace: Namespace = None
) -> None:
    """Tell processes to fetch no more; running jobs go on.

    This is Sidekiq's signal TSTP, so Ruby's processes obey, too. Our processes receive it with the next heartbeat, within 5 seconds (a sixth of the lease). Ruby's
    processes receive it within 10 seconds. Only a restart makes them fetch again. To stop for a while, use `pause`.
    """
    from trioworkers.cli import control_workers  # noqa: PLC0415 - as above
    from trioworkers.cli.session import in_session  # noqa: PLC0415 - as above

    _need_one(processes, everyone)
    in_session(lambda session: control_workers.signal(session, processes, "TSTP"), redis, namespace)


@examples(("trioworkers stop w1", "the same as TERM"), ("trioworkers stop --all", "all processes"))
def stop(
    processes: Processes = None, *, everyone: Everyone = False, redis: Redis = None, namespace: Namespace = None
) -> None:
    """Stop processes: no new jobs, then the deadline.

    This is Sidekiq's signal TERM, so Ruby's processes obey, too. Running jobs have the shutdown timeout to end. The others go back to their queue. Our processes receive
    it with the next heartbeat, within 5 seconds (a sixth of the lease). Ruby's processes receive it within 10 seconds.
    """
    from trioworkers.cli import control_workers  # noqa: PLC0415 - as above
    from trioworkers.cli.session import in_session  # noqa: PLC0415 - as above

    _need_one(processes, everyone)
    in_session(lambda session: control_workers.signal(session, processes, "TERM"), redis, namespace)


def _need_one(processes: list[str] | None, everyone: bool) -> None:
    if bool(processes) == everyone:
        raise click.BadParameter("which? Give a PROCESS, or --all")
