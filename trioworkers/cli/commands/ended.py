"""The commands about how far jobs are, and how they ended: watch, result, finished."""

from __future__ import annotations

from typing import Annotated

from trioworkers.cli.commands.examples import examples
from trioworkers.cli.commands.options import Jid, Json, Limit, Namespace, Redis, a_number
from trioworkers.cli.commands.parameters import Argument, Option


@examples(
    ("trioworkers watch 2f4c9a", "a progress bar, until the job has ended"),
    ("trioworkers watch 2f4c9a && echo done", "status 0 if it succeeded"),
)
def watch(jid: Jid, *, json: Json = False, redis: Redis = None, namespace: Namespace = None) -> None:
    """Show how far a job is, until it has ended.

    It shows what the job says with `ctx.progress(at, total, "message")`. Status 1: the job is dead, was deleted, or ended without success in another way. If a job
    has no progress and keeps no result, you only see that it is over.
    """
    from trioworkers.cli import ended_jobs  # noqa: PLC0415 - `--help` should not wait for it
    from trioworkers.cli.session import in_session  # noqa: PLC0415 - as above

    in_session(lambda session: ended_jobs.Watch(session, jid, as_json=json).run(), redis, namespace, "about one")


@examples(
    ("trioworkers result 2f4c9a1be8d07c33f5a1b2c3", "what it returned, as JSON"),
    ("trioworkers result --wait 60 2f4c9a1be8d07c33f5a1b2c3", "as soon as it has ended"),
)
def result(
    jid: Jid,
    *,
    wait: Annotated[float, Option(min=0, callback=a_number, help="Seconds to wait for its end.")] = 0.0,
    redis: Redis = None,
    namespace: Namespace = None,
) -> None:
    """Show the result of a job that keeps it (`keep_result`).

    The result is JSON. If the job is dead, ended in another way, or has not ended, you see the reason. The status is 1 then.
    """
    from trioworkers.cli import ended_jobs  # noqa: PLC0415 - as above
    from trioworkers.cli.session import in_session  # noqa: PLC0415 - as above

    in_session(lambda session: ended_jobs.result(session, jid, wait_s=wait), redis, namespace, "about one")


@examples(
    ("trioworkers finished", "the classes that keep how their jobs ended"),
    ("trioworkers finished ImportJob", "the last jobs: when and how they ended, how long they took"),
    ("trioworkers finished ImportJob --json --limit 0 | jq .took", "for scripts"),
)
def finished(
    job_class: Annotated[str | None, Argument(metavar="CLASS", help="The class of the jobs.")] = None,
    *,
    limit: Limit = 25,
    json: Json = False,
    redis: Redis = None,
    namespace: Namespace = None,
) -> None:
    """Show how the last jobs of a class ended (`keep_finished`).

    The newest come first.
    """
    from trioworkers.cli import ended_jobs  # noqa: PLC0415 - as above
    from trioworkers.cli.session import in_session  # noqa: PLC0415 - as above

    in_session(
        lambda session: ended_jobs.show_finished(session, job_class, limit=limit, as_json=json), redis, namespace
    )
