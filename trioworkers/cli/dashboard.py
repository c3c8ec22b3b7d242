"""What `web` does, and `run --web`: find the Redis, say where the page is, serve it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

import trio

from trioworkers.app import App
from trioworkers.chosen_redis import ChosenRedis
from trioworkers.cli.loader import load_app
from trioworkers.cli.shards import names_an_app, places_of, redises_of
from trioworkers.cli.tables import say
from trioworkers.cli.which_redis import which_redis
from trioworkers.errors import ConfigurationError
from trioworkers.process.page_address import check_installed, shown_address

if TYPE_CHECKING:
    from trioworkers.web.serving import Serving


def serving(
    bind: str, token: str | None, read_token: str | None, hosts: Sequence[str] | None, *, read_only: bool
) -> Serving:
    """How it is served. Raises ConfigurationError if the extra isn't installed."""
    check_installed()
    from trioworkers.web.serving import Serving  # noqa: PLC0415 - may not be installed

    return Serving(bind, token, read_token, read_only, tuple(hosts or ()))


def serve_alone(target: str | None, redis: str | None, namespace: str | None, how: Serving) -> None:
    """Until interrupted. Raises ConfigurationError."""
    from trioworkers.process.logs import configure_logging  # noqa: PLC0415 - see `serving`
    from trioworkers.process.until_stopped import until_stopped  # noqa: PLC0415 - as above
    from trioworkers.web.serving import serve  # noqa: PLC0415 - as above

    app = None if target is None else load_app(target)
    named = app is not None and redis is None and (app.redis_named or app.layout is not None)
    if named and app is not None:
        redises: Mapping[str, ChosenRedis] = places_of(app)
    elif redis is not None and names_an_app(redis):
        redises = redises_of(redis, namespace)
    else:
        redises = {"": which_redis(redis, namespace)}
    dashboard = how.application(known(redises))
    listener = how.listen()
    configure_logging("text", "info")
    say(f"dashboard of {shown(redises)} at {shown_address(listener)}")
    sys.stdout.flush()
    trio.run(until_stopped, partial(serve, dashboard, listener), restrict_keyboard_interrupt_to_checkpoints=True)


@contextmanager
def beside_worker(app: App, how: Serving) -> Iterator[None]:
    """While the block runs. Raises ConfigurationError."""
    import logging  # noqa: PLC0415 - see `serving`

    from trioworkers.web.serving import beside  # noqa: PLC0415 - as above

    metrics = None
    if find_spec("prometheus_client") is not None:
        from trioworkers.observe.metrics import Metrics  # noqa: PLC0415 - may not be installed

        metrics = Metrics(app)
    redises = shown_of(app)
    dashboard = how.application(known(redises), metrics)
    listener = how.listen()
    which = "" if app.layout is None else f" of {shown(redises)}"
    logging.getLogger("trioworkers").info("dashboard at %s%s", shown_address(listener), which)
    with beside(dashboard, listener):
        yield


def shown_of(app: App) -> Mapping[str, ChosenRedis]:
    """The Redises that it shows of an App that runs here, by shard."""
    settings = app.settings
    if app.layout is None:
        return {"": ChosenRedis(settings.redis_url, settings.namespace, "the App")}
    return places_of(app)


def shown(redises: Mapping[str, ChosenRedis]) -> str:
    """Which they are, for people."""
    return str(next(iter(redises.values()))) if len(redises) == 1 else f"{len(redises)} shards"


def known(redises: Mapping[str, ChosenRedis]) -> Mapping[str, ChosenRedis]:
    """Them, if pages can ask them. Raises ConfigurationError."""
    if any(each.url.startswith("embedded:") for each in redises.values()):
        raise ConfigurationError("the dashboard needs a Redis with an address; an embedded one is its worker's own")
    return redises
