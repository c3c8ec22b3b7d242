"""`trioworkers doctor`: what is wrong, or will be, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trioworkers.cli.examples import examples
from trioworkers.cli.options import Json, Namespace, Redis

if TYPE_CHECKING:
    from trioworkers.app import App
    from trioworkers.broker.checks import Finding
    from trioworkers.cli.place import Place


@examples(
    ("trioworkers doctor", "the Redis, and who is on it"),
    ("trioworkers doctor app.py --manifest deploy.yaml", "the App and its deployment, too"),
    ("trioworkers doctor --json --strict", "for scripts: status 1 for warnings, too"),
)
def doctor(
    target: Annotated[
        str | None,
        typer.Argument(metavar="TARGET", help="An App to check as well, as for `run`; its Redis is looked at."),
    ] = None,
    *,
    redis: Redis = None,
    namespace: Namespace = None,
    grace: Annotated[
        float | None, typer.Option(help="Seconds that whoever stops the worker waits before it kills.")
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(help="Where these seconds stand: a Kubernetes manifest, a systemd unit or a compose file."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings count as problems for the exit status.")] = False,
    as_json: Json = False,
) -> None:
    """Say what is wrong, and what to do about it.

    Checks Redis, permissions, queues, this machine, and if given your App and its deployment. Changes nothing. Exit status: 0 no problem found, 1 at least one problem (with --strict: or warning), 2 wrong usage.
    """
    from trioworkers.cli.checkup import check_app, check_files, check_grace, grace_in  # noqa: PLC0415 - dear
    from trioworkers.cli.loader import load_app  # noqa: PLC0415 - as above
    from trioworkers.settings import Settings  # noqa: PLC0415 - as above

    app = None if target is None else load_app(target)
    seconds, source = (grace, "--grace") if manifest is None else grace_in(manifest)
    place = _place(app, redis, namespace)
    timeout_s = (Settings() if app is None else app.settings).shutdown_timeout
    findings = _examine(place)
    findings += [check_files(app), check_grace(seconds, source, timeout_s)]
    if app is not None:
        findings += check_app(app)
    _show(findings, as_json=as_json)
    bad = ("problem", "warning") if strict else ("problem",)
    if any(finding.level in bad for finding in findings):
        raise typer.Exit(1)


def _place(app: App | None, redis: str | None, namespace: str | None) -> Place:
    from trioworkers.cli.place import Place, which_redis  # noqa: PLC0415 - as above

    if app is not None and redis is None and app.redis_named:
        return Place(app.settings.redis_url, namespace or app.settings.namespace, "the App")
    return which_redis(redis, namespace)


def _examine(place: Place) -> list[Finding]:
    import trio  # noqa: PLC0415 - as above

    from trioworkers.broker.checks import Finding  # noqa: PLC0415 - as above
    from trioworkers.broker.connection import Link, connect  # noqa: PLC0415 - as above
    from trioworkers.broker.diagnosis import diagnose  # noqa: PLC0415 - as above
    from trioworkers.broker.server import open_server  # noqa: PLC0415 - as above
    from trioworkers.errors import BrokerError  # noqa: PLC0415 - as above
    from trioworkers.settings import shown_url  # noqa: PLC0415 - as above
    from trioworkers.wire.keys import Keys  # noqa: PLC0415 - as above

    where = f"{shown_url(place.url)} ({place.source})"
    findings: list[Finding] = []

    async def examine() -> None:
        async with open_server(place.url) as url, connect(url, Link(shown_url(url))) as connection:
            async for finding in diagnose(connection, Keys(place.namespace)):
                if not findings:
                    findings.append(Finding("redis", "ok", f"answers at {where}"))
                findings.append(finding)

    try:
        trio.run(examine)
    except BrokerError as error:
        advice = "start it, or say where it is: --redis, REDIS_URL, `trioworkers dev`; right user and password?"
        findings.append(Finding("redis", "problem", f"no use at {where}: {error}", advice))
    return findings


def _show(findings: Sequence[Finding], *, as_json: bool) -> None:
    from trioworkers.cli.logs import wants_colours  # noqa: PLC0415 - as above

    if as_json:
        import attrs  # noqa: PLC0415 - as above
        import msgspec  # noqa: PLC0415 - as above

        typer.echo(msgspec.json.encode([attrs.asdict(finding) for finding in findings]))
        return
    import os  # noqa: PLC0415 - as above
    import sys  # noqa: PLC0415 - as above

    colours = _COLOURS if wants_colours(sys.stdout, os.environ) else {}
    reset = "\x1b[0m" if colours else ""
    for finding in findings:
        level = f"{colours.get(finding.level, '')}{finding.level:8}{reset}"
        typer.echo(f"{level} {finding.check:13}  {finding.text}", color=bool(colours))
        if finding.advice and finding.level != "ok":
            typer.echo(f"{'':24}→ {finding.advice}")


_COLOURS = {"ok": "\x1b[32m", "note": "\x1b[36m", "warning": "\x1b[33m", "problem": "\x1b[31m"}
