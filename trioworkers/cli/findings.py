"""What `doctor` does: gather the findings, and show them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from itertools import combinations
from pathlib import Path

import attrs
import click
import trio

from trioworkers.app import App
from trioworkers.broker.apart import Place, is_same, same
from trioworkers.broker.checks import Finding
from trioworkers.broker.people.diagnosis import diagnose
from trioworkers.broker.people.sentinels import check_sentinels
from trioworkers.broker.redis.connection import connect
from trioworkers.broker.redis.link import Link
from trioworkers.broker.redis.server import open_server
from trioworkers.chosen_redis import ChosenRedis
from trioworkers.cli.checkup import check_app, check_files, check_grace
from trioworkers.cli.loader import load_app
from trioworkers.cli.manifests import check_manifest, read_manifest
from trioworkers.cli.shards import places_of
from trioworkers.cli.tables import clean, in_lines
from trioworkers.cli.which_redis import which_redis
from trioworkers.errors import BrokerError, CannotServe, Unreachable, WrongLogin
from trioworkers.printable import json_line
from trioworkers.process.logs import wants_colours
from trioworkers.redis_url import shown_url
from trioworkers.settings import Settings
from trioworkers.wire.error_replies import who_knows_more
from trioworkers.wire.keys import Keys

_COLOURS = {"ok": "\x1b[32m", "note": "\x1b[36m", "warning": "\x1b[33m", "problem": "\x1b[31m"}


def examine(
    target: str | None, redis: str | None, namespace: str | None, grace_s: float | None, manifest: Path | None
) -> list[Finding]:
    """All findings: of Redis, this machine, and if there is a target its App and deployment."""
    app = None if target is None else load_app(target)
    places = (
        [*places_of(app).values()]
        if app is not None and redis is None and app.shards
        else [_place(app, redis, namespace)]
    )
    findings = [finding for place in places for finding in _check_redis(place)]
    findings += _check_apart(places)
    findings.append(check_files(app))
    findings += deployment(manifest, grace_s, app)
    if app is not None:
        findings += check_app(app)
    return findings


def deployment(manifest: Path | None, grace_s: float | None, app: App | None) -> list[Finding]:
    """Of whoever starts and stops the worker. Raises ConfigurationError if the file can't be read."""
    timeout_s = (Settings() if app is None else app.settings).shutdown_timeout
    if manifest is None:
        return [check_grace(grace_s, "--grace", timeout_s)]
    its = read_manifest(manifest)
    given_s, source = its.grace_s if grace_s is None else (grace_s, "--grace")
    timeout_s = timeout_s if its.shutdown_timeout_s is None else its.shutdown_timeout_s
    several = its.option("--processes") is not None
    grace = check_grace(given_s, source, timeout_s, before_s=its.before_s, several=several)
    return [grace, *check_manifest(its, _queue_keys(app))]


def _queue_keys(app: App | None) -> list[str]:
    if app is None or app.shards:  # a namespace for each shard: which one a scaler means isn't said
        return []
    keys = Keys(app.settings.namespace)
    return [keys.queue(queue) for queue in app.queues]


def _place(app: App | None, redis: str | None, namespace: str | None) -> ChosenRedis:

    if app is not None and redis is None and app.redis_named:
        return ChosenRedis(app.settings.redis_url, namespace or app.settings.namespace, "the App")
    return which_redis(redis, namespace)


def _check_redis(place: ChosenRedis) -> list[Finding]:

    where = f"{shown_url(place.url)} ({place.shard or place.source})"
    findings: list[Finding] = []

    async def ask() -> None:
        async with (
            open_server(place.url) as url,
            connect(url, Link(shown_url(url)), namespace=place.namespace) as connection,
        ):
            async for finding in diagnose(connection, Keys(place.namespace)):
                if not findings:
                    findings.append(Finding("redis", "ok", f"answers at {where}"))
                    findings.extend(await check_sentinels(url))
                findings.append(finding)

    try:
        trio.run(ask)
    except WrongLogin as error:
        findings.append(
            Finding("redis", "problem", f"wrong user or password at {where}: {error}", "see --redis or REDIS_URL")
        )
    except BrokerError as error:
        findings.append(Finding("redis", "problem", f"no use at {where}: {error}", _what_to_do(error, place.url)))
    return findings


def _what_to_do(error: BrokerError, url: str) -> str:
    if isinstance(error, Unreachable):
        return error.advice
    if known := who_knows_more(str(error), url):
        return known.removeprefix("; ")
    if isinstance(error, CannotServe):
        return "it answers, but can't serve now: wait, or see its own log"
    return "right user and password? does it serve? its own log may say"


def _check_apart(places: Sequence[ChosenRedis]) -> list[Finding]:
    """Two shards that are one place. What is away is told elsewhere."""
    findings: list[Finding] = []

    async def ask(one: ChosenRedis, other: ChosenRedis) -> None:
        async with AsyncExitStack() as stack:
            there = []
            for place in (one, other):
                url = await stack.enter_async_context(open_server(place.url))
                connection = await stack.enter_async_context(
                    connect(url, Link(shown_url(url)), namespace=place.namespace)
                )
                ask = partial(connection.execute, "apart")
                there.append(Place(place.shard, connection.link.address, ask, Keys(place.namespace)))
            if await is_same(*there):
                findings.append(Finding("shards", "problem", *same(*there)))

    for one, other in combinations(places, 2):
        if one.namespace == other.namespace:
            with suppress(BrokerError):
                trio.run(ask, one, other)
    return findings


def show(findings: Sequence[Finding], *, as_json: bool) -> None:
    """For people or, with `as_json`, for scripts."""
    if as_json:
        click.echo(json_line([attrs.asdict(finding) for finding in findings]))
        return

    colours = _COLOURS if wants_colours(sys.stdout, os.environ) else {}
    reset = "\x1b[0m" if colours else ""
    indent = " " * 24
    for finding in findings:
        level = f"{colours.get(finding.level, '')}{finding.level:8}{reset}"
        first, *more = in_lines(clean(finding.text), len(indent))
        click.echo(f"{level} {finding.check:13}  {first}", color=bool(colours))
        for line in more:
            click.echo(indent + line)
        if finding.advice and finding.level != "ok":
            first, *more = in_lines(clean(finding.advice), len(indent) + 2)
            click.echo("\n".join([f"{indent}→ {first}", *(f"{indent}  {line}" for line in more)]))
