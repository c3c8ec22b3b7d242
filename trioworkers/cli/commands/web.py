"""`trioworkers web [TARGET]`: the dashboard by itself."""

from __future__ import annotations

from typing import Annotated

from trioworkers.cli.commands.examples import examples
from trioworkers.cli.commands.options import Namespace, Redis
from trioworkers.cli.commands.parameters import Argument, Option

Token = Annotated[
    str | None,
    Option(
        envvar="TRIOWORKERS_WEB_TOKEN",
        show_default=False,
        help="The password of its login, 16 characters or more. Better set the variable: other users can read a command line.",
    ),
]
ReadToken = Annotated[
    str | None,
    Option(envvar="TRIOWORKERS_WEB_READ_TOKEN", show_default=False, help="A second password, only for looking."),
]


@examples(
    ("trioworkers web", "the Redis that all commands mean, at http://127.0.0.1:8090/"),
    ("trioworkers web app.py --read-only", "the App's own Redis; without buttons"),
    (
        "trioworkers web --bind 0.0.0.0:8090 --host jobs.example.com",
        "for other machines, with a login; the password is in TRIOWORKERS_WEB_TOKEN",
    ),
)
def web(
    target: Annotated[
        str | None, Argument(metavar="TARGET", help="An App, as for `run`. The dashboard shows its Redis.")
    ] = None,
    *,
    bind: Annotated[
        str, Option(help="HOST:PORT. An address that other machines reach needs a token.")
    ] = "127.0.0.1:8090",
    token: Token = None,
    read_token: ReadToken = None,
    read_only: Annotated[bool, Option("--read-only", help="No buttons for anybody.")] = False,
    host: Annotated[
        list[str] | None,
        Option(help="A host name that requests may use. May be given several times. Default: any."),
    ] = None,
    redis: Redis = None,
    namespace: Namespace = None,
) -> None:
    """Serve the dashboard: queues, jobs and processes as web pages.

    Its buttons do what the commands do.

    It needs the extra `web`. Without a token it answers only this machine.
    """
    from trioworkers.cli.dashboard import serve_alone, serving  # noqa: PLC0415 - `--help` should not wait for it

    serve_alone(target, redis, namespace, serving(bind, token, read_token, host, read_only=read_only))
