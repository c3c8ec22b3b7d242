"""What `web` does, and `run --web`: find the Redis, say where the page is, serve it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

import trio

from trioworkers.app import App
from trioworkers.chosen_redis import ChosenRedis, redis_of
from trioworkers.cli.loader import load_app
from trioworkers.cli.shards import places_of
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
    from trioworkers.web.serving import serve  # noqa: PLC0415 - as above

    app = None if target is None else load_app(target)
    named = app is not None and redis is None and app.redis_named
    chosen = redis_of(app) if named and app is not None else which_redis(redis, namespace)
    dashboard = how.application(known(chosen))
    listener = how.listen()
    configure_logging("text", "info")
    say(f"dashboard of {chosen} at {shown_address(listener)}")
    sys.stdout.flush()
    trio.run(serve, dashboard, listener, restrict_keyboard_interrupt_to_checkpoints=True)


@contextmanager
def beside_worker(app: App, how: Serving) -> Iterator[None]:
    """While the block runs. Raises ConfigurationError."""
    import logging  # noqa: PLC0415 - see `serving`

    from trioworkers.web.serving import beside  # noqa: PLC0415 - as above

    metrics = None
    if find_spec("prometheus_client") is not None:
        from trioworkers.observe.metrics import Metrics  # noqa: PLC0415 - may not be installed

        metrics = Metrics(app)
    dashboard = how.application(known(shown_of(app)), metrics)
    listener = how.listen()
    which = (
        "" if app.layout is None else f" of {shown_of(app)}; of another shard: trioworkers web --redis MODULE:APP@SHARD"
    )
    logging.getLogger("trioworkers").info("dashboard at %s%s", shown_address(listener), which)
    with beside(dashboard, listener):
        yield


def shown_of(app: App) -> ChosenRedis:
    """The Redis that it shows: one page is of one, the first of several."""
    settings = app.settings
    if app.layout is None:
        return ChosenRedis(settings.redis_url, settings.namespace, "the App")
    return next(iter(places_of(app).values()))


def known(chosen: ChosenRedis) -> ChosenRedis:
    """It, if pages can ask it. Raises ConfigurationError."""
    if chosen.url.startswith("embedded:"):
        raise ConfigurationError("the dashboard needs a Redis with an address; an embedded one is its worker's own")
    return chosen
