"""`trioworkers enqueue QUEUE CLASS [ARG …]`: send one job from the shell."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from trioworkers.cli.examples import examples
from trioworkers.cli.options import Namespace, Redis


@examples(
    ("trioworkers enqueue default add 1 2", "the class add with two numbers"),
    ("trioworkers enqueue default greet Zoë", "what isn't JSON is a string"),
    ("trioworkers enqueue track TrackUserJob '{\"id\": 7}' --in 60", "in a minute"),
    ("trioworkers enqueue default add -- 1 -2", "negative numbers go after --"),
)
def enqueue(
    queue: Annotated[str, typer.Argument(metavar="QUEUE", help="The queue's name.")],
    job_class: Annotated[str, typer.Argument(metavar="CLASS", help="The job's class.")],
    args: Annotated[
        list[str] | None, typer.Argument(metavar="ARG", help="Its arguments: JSON, or a string if it isn't.")
    ] = None,
    *,
    redis: Redis = None,
    namespace: Namespace = None,
    delay: Annotated[float | None, typer.Option("--in", help="Seconds from now when it shall run.")] = None,
) -> None:
    """Enqueue one job and print its jid."""
    import trio  # noqa: PLC0415 - `--help` should not wait for it

    from trioworkers import Client, Job  # noqa: PLC0415 - as above
    from trioworkers.cli.place import which_redis  # noqa: PLC0415 - as above

    place = which_redis(redis, namespace)
    job = Job(queue, job_class, [parse_argument(arg) for arg in args or ()])

    async def send() -> None:
        async with Client(place.url, namespace=place.namespace) as client:
            await (client.enqueue(job) if delay is None else client.schedule(delay, job))

    with place.explained():
        trio.run(send)
    typer.echo(job.jid)


def parse_argument(text: str) -> Any:
    """JSON if it is JSON, else the text itself."""
    import msgspec  # noqa: PLC0415 - as above

    try:
        return msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return text
