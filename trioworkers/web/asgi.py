"""`trioworkers.web.asgi(…)`: the dashboard as an ASGI application, for whoever mounts it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from trioworkers.chosen_redis import ChosenRedis
from trioworkers.cli.shards import places_of
from trioworkers.errors import ConfigurationError
from trioworkers.jobs.declarations import Declarations
from trioworkers.redis_url import parse_redis_url
from trioworkers.web.application import Application
from trioworkers.web.bridge import Bridge
from trioworkers.web.guard import Auth, Guard, token_auth
from trioworkers.web.http import ASGI
from trioworkers.web.redaction import Redact
from trioworkers.web.sharded import Sharded
from trioworkers.web.site import OwnMetrics, Site

if TYPE_CHECKING:
    from trioworkers.observe.metrics import Metrics


def asgi(
    app: Declarations | str,
    *,
    namespace: str = "",
    auth: Auth | None = None,
    token: str | None = None,
    read_token: str | None = None,
    read_only: bool = False,
    redact: Redact | None = None,
    hosts: Collection[str] | None = None,
    metrics: Metrics | None = None,
) -> ASGI:
    """The dashboard of an App's Redis, of all its shards, or of a Redis URL with a namespace.

    It runs as it is in a Trio server; under asyncio (uvicorn, FastAPI) over a thread of its own in which Trio runs.

    Without `auth` or a token it answers only to this machine, under names of this machine. `token`, `read_token`: 16 characters or more, the password of a
    browser's login (the user is who is logged), or a bearer token; the second may only look. `auth(scope)`: a function, async or not, that returns None,
    "read", "write", or a `Visitor` that has a name, too. `read_only`: nobody may press a button. `redact`: see `Redact`. `hosts`: the names by which it may be called,
    as browsers send them, without a port; not given: any, if there is a login. `metrics`: of a worker in this program, for `/metrics`. Raises ConfigurationError.
    """
    application = application_of(_redises(app, namespace), read_only=read_only, redact=redact, metrics=metrics)
    return guarded(application, read_only=read_only, auth=auth, token=token, read_token=read_token, hosts=hosts)


def application_of(
    redises: Mapping[str, ChosenRedis],
    *,
    read_only: bool = False,
    redact: Redact | None = None,
    metrics: OwnMetrics | None = None,
) -> ASGI:
    """The pages of one Redis, or of several by shard. To stand behind a guard."""
    if len(redises) == 1:
        (redis,) = redises.values()
        return Application(Site(redis, read_only=read_only, redact=redact, metrics=metrics))
    sites = {name: Site(redis, read_only=read_only, redact=redact) for name, redis in redises.items()}
    return Sharded(sites, metrics)


def guarded(
    application: ASGI,
    *,
    read_only: bool = False,
    auth: Auth | None = None,
    token: str | None = None,
    read_token: str | None = None,
    hosts: Collection[str] | None = None,
) -> ASGI:
    """An application behind its guard. Raises ConfigurationError."""
    if auth is not None and (token or read_token):
        raise ConfigurationError("web: `auth` or a token, not both")
    if token or read_token:
        auth = token_auth(token, read_token)
    return Bridge(Guard(application, auth=auth, hosts=hosts, read_only=read_only))


def _redises(app: Declarations | str, namespace: str) -> Mapping[str, ChosenRedis]:
    redises = {"": ChosenRedis(app, namespace, "asgi()")} if isinstance(app, str) else places_of(app)
    for chosen in redises.values():
        if chosen.url.startswith("embedded:"):
            raise ConfigurationError(
                "web: the dashboard needs a Redis with an address; an embedded one is its worker's own"
            )
        parse_redis_url(chosen.url)
    return redises
