"""`trioworkers enqueue QUEUE CLASS [ARG …]`: send one job from the shell."""

from __future__ import annotations

from typing import Annotated, Any

import click

from trioworkers.cli.commands.completion import complete
from trioworkers.cli.commands.examples import examples
from trioworkers.cli.commands.options import Namespace, Queue, Redis, a_number
from trioworkers.cli.commands.parameters import Argument, Option


@examples(
    ("trioworkers enqueue default add 1 2", "the class add with two numbers"),
    ("trioworkers enqueue default greet Zoë", "an argument that isn't JSON is a string"),
    ("trioworkers enqueue track TrackUserJob '{\"id\": 7}' --in 60", "in a minute"),
    ("trioworkers enqueue default add -- 1 -2", "write -- before negative numbers"),
    ("trioworkers enqueue default WelcomeJob 7 --with plan=pro", "to Rails' ActiveJob, with a keyword argument"),
)
def enqueue(
    queue: Queue,
    job_class: Annotated[str, Argument(metavar="CLASS", help="The job's class.", complete=complete("classes"))],
    args: Annotated[
        list[str] | None, Argument(metavar="[ARG]...", help="Its arguments: JSON, or a string if it isn't.")
    ] = None,
    *,
    redis: Redis = None,
    namespace: Namespace = None,
    delay: Annotated[
        float | None, Option("--in", min=0, callback=a_number, help="Run it so many seconds from now.")
    ] = None,
    active_job: Annotated[bool, Option("--active-job", help="Send it as a job of Rails' ActiveJob.")] = False,
    keywords: Annotated[
        list[str] | None, Option("--with", metavar="NAME=ARG", help="A keyword argument of an ActiveJob job.")
    ] = None,
) -> None:
    """Enqueue one job and print its jid.

    If no live worker serves the queue, or the queue is paused, the job must wait. Then a line on standard error says so.
    """
    from trioworkers.cli.send import send  # noqa: PLC0415 - `--help` should not wait for it
    from trioworkers.cli.usage import as_usage  # noqa: PLC0415 - as above
    from trioworkers.wire.job import Job  # noqa: PLC0415 - as above

    kwargs = dict(parse_keyword(text) for text in keywords or ())
    parsed = [parse_argument(arg) for arg in args or ()]
    with as_usage():
        job = Job(queue, job_class, parsed, kwargs=kwargs, active_job=active_job or bool(kwargs))
        send(job, delay, redis, namespace)


def parse_keyword(text: str) -> tuple[str, Any]:
    """The name, and the argument as below. Raises BadParameter without a name."""
    name, found, argument = text.partition("=")
    if not name or not found:
        raise click.BadParameter(f"a keyword argument is NAME=ARG, not {text!r}")
    return name, parse_argument(argument)


def parse_argument(text: str) -> Any:
    """JSON if it is JSON, else the text itself."""
    import msgspec  # noqa: PLC0415 - as above

    try:
        return msgspec.json.decode(text)
    except (ValueError, RecursionError) as error:
        if text.lstrip()[:1] in ("{", "[", '"') or _looks_like_a_number(text):
            from trioworkers.cli.tables import remark, short  # noqa: PLC0415 - as above

            remark(f"{short(text, 40)!r} is no JSON ({error}), so it is sent as a string")
        return text


def _looks_like_a_number(text: str) -> bool:
    """`1e999`, `007`, `1_000`: numbers elsewhere, but not in JSON. Those that are written as words are meant as such."""
    try:
        float(text)
    except ValueError:
        return False
    return any(letter.isdigit() for letter in text)
