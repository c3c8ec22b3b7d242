"""Which Redises a command means whose `--redis` names an App: `handlers:app`, and of several shards one by `handlers:app@NAME`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import attrs

from trioworkers.chosen_redis import ChosenRedis, redis_of
from trioworkers.errors import DuplicateJob, Refused, Unavailable, WrongUsage

if TYPE_CHECKING:
    from trioworkers.app import App
    from trioworkers.jobs.declared import Declared

_TARGET = re.compile(r"[^/@:]+\.py(:[A-Za-z_][\w.]*)?(@[\w.-]+)?|[A-Za-z_][\w.]*:[A-Za-z_][\w.]*(@[\w.-]+)?")


def names_an_app(redis: str | None) -> bool:
    """Whether it is no URL, but says where an App is. `localhost:6379` is neither."""
    return redis is not None and not redis.startswith("embedded:") and _TARGET.fullmatch(redis) is not None


def redises_of(target: str, namespace: str | None) -> dict[str, ChosenRedis]:
    """Those of the App, by shard; "" for its own. Raises as `app_of`."""
    app, wanted = app_of(target)
    found = places_of(app)
    if wanted:
        found = {wanted: found[wanted]}
    if namespace is not None and len(found) > 1:
        raise WrongUsage("--namespace: each shard of the App has its own; name one shard, --redis MODULE:APP@SHARD")
    return (
        found
        if namespace is None
        else {name: attrs.evolve(place, namespace=namespace) for name, place in found.items()}
    )


def app_of(target: str) -> tuple[App, str]:
    """The App, and the shard that is named; "" if none is. Raises WrongUsage, and as `load_app` does."""
    from trioworkers.cli.loader import load_app  # noqa: PLC0415 - most commands load no App

    target, _, wanted = target.partition("@")
    app = load_app(target)
    if wanted and wanted not in places_of(app):
        known = ", ".join(filter(None, places_of(app))) or "none"
        raise WrongUsage(f"--redis: {target} has no shard {wanted!r}; it has {known}")
    return app, wanted


def places_of(app: Declared) -> dict[str, ChosenRedis]:
    """An App's Redises, by shard; "" for its own."""
    layout = app.layout
    if layout is None:
        return {"": redis_of(app)}
    from trioworkers.shards import called  # noqa: PLC0415 - few apps have several Redises

    return {name: attrs.evolve(redis_of(app.at(name)), shard=called(name)) for name in layout.names}


@contextmanager
def explained_for(app: Declared) -> Iterator[None]:
    """Has errors of Redis say which one that is, for what the App's own client does; of several shards, which ones it may be."""
    from trioworkers.broker.ungrouped import ungrouped  # noqa: PLC0415 - most commands load no App, and some need no Trio

    places = [*places_of(app).values()]
    try:
        with places[0].explained() if len(places) == 1 else nullcontext(), ungrouped():
            yield
    except (Refused, Unavailable) as error:
        if len(places) == 1 or isinstance(error, DuplicateJob):
            raise
        known = ", ".join(str(place) for place in places)
        raise type(error)(f"a Redis of the App's shards ({known}): {error}") from error
