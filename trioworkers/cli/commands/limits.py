"""The command of fleet limits: who holds, who waits; other numbers than the code's, closed, open."""

from __future__ import annotations

from typing import Annotated, Literal

import click

from trioworkers.cli.commands.completion import complete
from trioworkers.cli.commands.examples import examples
from trioworkers.cli.commands.options import Json, Namespace, Redis, a_number
from trioworkers.cli.commands.parameters import Argument, Option

Action = Literal["show", "set", "close", "open", "reset"]


@examples(
    ("trioworkers limits", "all limits: numbers, permits held, jobs that wait"),
    ("trioworkers limits show crm", "the jobs that hold a permit, and the jobs that wait"),
    ("trioworkers limits set crm --concurrency 5 --rate 20/s", "instead of what the code says"),
    ("trioworkers limits close crm --for 600", "the service is down: nothing starts for ten minutes"),
    ("trioworkers limits reset crm", "back to what the code says"),
)
def limits(
    action: Annotated[Action | None, Argument(metavar="[ACTION]", help="show, set, close, open or reset.")] = None,
    name: Annotated[
        str | None,
        Argument(
            metavar="[LIMIT]",
            help="The name of a limit. crm:7 is crm for the value 7 only. @mail is the limit of the queue mail.",
            complete=complete("limits"),
        ),
    ] = None,
    *,
    concurrency: Annotated[int | None, Option(min=1, max=1_000_000_000, help="With set: how many run at once.")] = None,
    rate: Annotated[str | None, Option(help="With set: how many start, like 100/s or 5/10s.")] = None,
    burst: Annotated[int | None, Option(min=1, max=1_000_000_000, help="With set: how many may start at once.")] = None,
    seconds: Annotated[
        float | None,
        Option("--for", min=0.001, max=86_400, callback=a_number, help="With close: seconds, a day at most."),
    ] = None,
    json: Json = False,
    redis: Redis = None,
    namespace: Namespace = None,
) -> None:
    """Show limits over the fleet; set, close and open them.

    Numbers that you set count instead of the code's until `reset`. They hold at once, for all workers, also for those that start later. Under a closed limit no job starts.
    Running jobs go on, also if you lower a number.
    """
    from trioworkers.cli import limits as what  # noqa: PLC0415 - `--help` should not wait for it
    from trioworkers.cli.session import in_session  # noqa: PLC0415 - as above

    _check(action, (concurrency, rate, burst), seconds)
    if action is None:
        in_session(lambda session: what.limits(session, as_json=json), redis, namespace)
        return
    if name is None:
        raise click.BadParameter("which? Give a LIMIT")
    if action == "show":
        in_session(lambda session: what.one_limit(session, name, as_json=json), redis, namespace)
        return
    numbers = {"concurrency": concurrency, "interval_s": _between_s(rate), "burst": burst}
    in_session(
        lambda session: what.change(session, name, action, close_s=seconds or 0.0, **numbers),  # type: ignore[arg-type]
        redis,
        namespace,
    )


def _between_s(rate: str | None) -> float | None:
    """Seconds between two starts. Raises BadParameter."""
    from trioworkers.wire.limit_spec import interval_s  # noqa: PLC0415 - as above

    try:
        return None if rate is None else interval_s(rate)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _check(action: Action | None, numbers: tuple[object, ...], seconds: float | None) -> None:
    """Raises BadParameter for options that don't go with what is to be done."""
    given = any(each is not None for each in numbers)
    if action == "set" and not given:
        raise click.BadParameter("set to what? Give --concurrency, --rate or --burst")
    if action != "set" and given:
        raise click.BadParameter("--concurrency, --rate and --burst go with set")
    if action != "close" and seconds is not None:
        raise click.BadParameter("--for goes with close")
