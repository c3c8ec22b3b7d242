"""`trioworkers doctor`: the command; what it does is in `cli/findings.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from click.exceptions import Exit

from trioworkers.cli.commands.examples import examples
from trioworkers.cli.commands.options import Json, Namespace, Redis, a_number
from trioworkers.cli.commands.parameters import Argument, Option


@examples(
    ("trioworkers doctor", "the Redis, and who is on it"),
    ("trioworkers doctor app.py --manifest deploy.yaml", "the App and its deployment, too"),
    ("trioworkers doctor --json --strict", "for scripts: status 1 for warnings, too"),
)
def doctor(
    target: Annotated[
        str | None,
        Argument(metavar="TARGET", help="An App, as for `run`. It is checked, too, and so is its Redis."),
    ] = None,
    *,
    redis: Redis = None,
    namespace: Namespace = None,
    grace: Annotated[
        float | None,
        Option(min=0, callback=a_number, help="Seconds between the signal that stops the worker and the kill."),
    ] = None,
    manifest: Annotated[
        Path | None,
        Option(
            help="A file that says these seconds and is checked, too: a Kubernetes manifest, a systemd unit, a compose file or a Dockerfile."
        ),
    ] = None,
    strict: Annotated[bool, Option("--strict", help="Warnings also give exit status 1.")] = False,
    as_json: Json = False,
) -> None:
    """Say what is wrong, and what to do about it.

    It checks Redis, permissions, queues, and this machine. With a TARGET it also checks your App, and with --manifest its deployment. It changes nothing.
    Status 1: there is a problem (with --strict: or a warning).
    """
    from trioworkers.cli.findings import examine, show  # noqa: PLC0415 - `--help` should not wait for it

    findings = examine(target, redis, namespace, grace, manifest)
    show(findings, as_json=as_json)
    bad = ("problem", "warning") if strict else ("problem",)
    if any(finding.level in bad for finding in findings):
        raise Exit(1)
