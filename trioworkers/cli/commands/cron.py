"""The command of periodic jobs: what is due when, how runs ended; run one now, pause, resume, create, delete, explain an expression."""

from __future__ import annotations

from typing import Annotated, Literal

import click

from trioworkers.cli.commands.completion import complete
from trioworkers.cli.commands.examples import examples
from trioworkers.cli.commands.options import Json, Namespace, Redis, a_number
from trioworkers.cli.commands.parameters import Argument, Option

Action = Literal["show", "history", "run", "pause", "resume", "explain", "create", "delete"]


@examples(
    ("trioworkers cron", "all periodic jobs, the next one first"),
    ("trioworkers cron show Report", "its next five times, in its zone and in UTC"),
    ("trioworkers cron history Report", "its last 20 runs, and how each ended"),
    ("trioworkers cron run Report", "an extra run, now"),
    ("trioworkers cron pause Report", "until `cron resume Report`"),
    ('trioworkers cron explain "30 2 * * *" --tz Europe/Berlin', "when this expression comes next"),
    ('trioworkers cron create nightly "0 4 * * *" reports Report 7', "an entry that exists only in Redis"),
)
def cron(
    action: Annotated[
        Action | None,
        Argument(metavar="[ACTION]", help="show, history, run, pause, resume, explain, create or delete."),
    ] = None,
    name: Annotated[
        str | None,
        Argument(
            metavar="[NAME]",
            help="QUEUE/CLASS, the class, or the name of the entry. With explain: an expression.",
            complete=complete("periodic"),
        ),
    ] = None,
    words: Annotated[
        list[str] | None,
        Argument(metavar="[EXPRESSION QUEUE CLASS [ARG]...]", help="With create: when, and which job."),
    ] = None,
    *,
    tz: Annotated[str, Option(help="With explain and create: an IANA zone.")] = "UTC",
    missed: Annotated[
        Literal["one", "all", "skip"], Option(help="With create: which missed ticks are sent later.")
    ] = "one",
    overlap: Annotated[
        Literal["allow", "skip", "wait"], Option(help="With create: whether a run may begin while another runs.")
    ] = "allow",
    jitter: Annotated[
        float, Option(min=0, callback=a_number, help="With create: run it up to so many seconds later.")
    ] = 0.0,
    active_job: Annotated[bool, Option("--active-job", help="With create: a job of Rails' ActiveJob.")] = False,
    json: Json = False,
    redis: Redis = None,
    namespace: Namespace = None,
) -> None:
    """Show periodic jobs; run, pause, resume, create, delete them.

    You can create and delete entries that exist only in Redis.

    Change entries of code in the code. Such an entry is removed when no live worker has declared it for 10 minutes. The ticks of a paused entry are not sent, also
    not when it is resumed.
    """
    from trioworkers.cli import periodic as what  # noqa: PLC0415 - `--help` should not wait for it
    from trioworkers.cli.session import in_session  # noqa: PLC0415 - as above

    if action is None:
        in_session(lambda session: what.entries(session, as_json=json), redis, namespace)
        return
    if name is None:
        raise click.BadParameter("which? Give an EXPRESSION" if action == "explain" else "which? Give a NAME")
    if words and action != "create":
        raise click.BadParameter(f"{words[0]!r}: one NAME is enough")
    if action == "explain":
        what.explain(name, tz, as_json=json)
    elif action == "create":
        options = what.Options(tz, missed, overlap, jitter, active_job)
        what.create(what.created(name, words or (), options), redis, namespace)
    elif action in ("show", "history"):
        show = what.one_entry if action == "show" else what.history
        in_session(lambda session: show(session, name, as_json=json), redis, namespace)
    else:
        in_session(lambda session: what.change(session, name, action), redis, namespace)
