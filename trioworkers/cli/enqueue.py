"""`trioworkers enqueue QUEUE CLASS [ARG …]`: send one job from the shell."""

from __future__ import annotations

from typing import Annotated, Any

import typer


def enqueue(
    queue: Annotated[str, typer.Argument(help="The queue's name.")],
    job_class: Annotated[str, typer.Argument(metavar="CLASS", help="The job's class.")],
    args: Annotated[
        list[str] | None, typer.Argument(metavar="[ARG]...", help="Its arguments: JSON, or a string if it isn't.")
    ] = None,
    *,
    redis: Annotated[str | None, typer.Option(help="Default: REDIS_URL, or redis://localhost:6379/0.")] = None,
    namespace: Annotated[str, typer.Option(envvar="TRIOWORKERS_NAMESPACE", help="Goes before all keys.")] = "",
    delay: Annotated[float | None, typer.Option("--in", help="Seconds from now when it shall run.")] = None,
) -> None:
    """Enqueue one job and print its jid. Negative numbers after `--`: trioworkers enqueue default Add -- 1 -2."""
    import trio  # noqa: PLC0415 - `--help` should not wait for it

    from trioworkers import Client, Job  # noqa: PLC0415 - as above

    job = Job(queue, job_class, [parse_argument(arg) for arg in args or ()])

    async def send() -> None:
        async with Client(redis, namespace=namespace) as client:
            await (client.enqueue(job) if delay is None else client.schedule(delay, job))

    trio.run(send)
    typer.echo(job.jid)


def parse_argument(text: str) -> Any:
    """JSON if it is JSON, else the text itself."""
    import msgspec  # noqa: PLC0415 - as above

    try:
        return msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return text
