"""Which Redis a command, a client or a worker means, and what decided on it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol
from weakref import WeakSet

import attrs

from trioworkers.errors import BrokerError, CannotServe, ConfigurationError, DuplicateJob, Refused, Unavailable
from trioworkers.redis_url import shown_url
from trioworkers.settings import DEFAULT_URL, Settings
from trioworkers.wire.error_replies import who_knows_more

DEFAULT = "the default address"


@attrs.frozen
class ChosenRedis:
    """A Redis and a namespace in it. `source`: what decided on this one, for messages. `shard`: what the App calls it, for people, where it is one of several."""

    url: str
    namespace: str = ""
    source: str = DEFAULT
    shard: str = ""

    def __str__(self) -> str:
        which = f"{self.shard}, " if self.shard else ""
        return f"{which}{shown_url(self.url)}{f' (namespace {self.namespace!r})' if self.namespace else ''}"

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Has errors of Redis say which one that is, and what decided on it."""
        try:
            yield
        except DuplicateJob:  # an answer to what was asked, whose kind and jid count; not a trouble of this Redis
            raise
        except Refused as error:
            raise Refused(f"Redis at {shown_url(self.url)} ({self.source}): {self._more(error)}") from error
        except Unavailable as error:
            where = self.source if self.source != DEFAULT else f"{DEFAULT}; no `trioworkers dev` runs here"
            redis = f"Redis at {shown_url(self.url)} ({where})"
            if isinstance(error, CannotServe):
                raise CannotServe(f"{redis} can't do it now: {self._more(error)}") from error
            raise Unavailable(f"no answer from {redis}: {error}") from error

    def _more(self, error: BrokerError) -> str:
        return f"{error}{who_knows_more(str(error), self.url)}"


def choose(url: str | None, namespace: str | None, said_by: str) -> ChosenRedis:
    """What is given, else REDIS_URL, else a `dev` that runs here or above, else the default address. `said_by`: who gives it, for messages."""
    if url is not None:
        return ChosenRedis(url, namespace or "", said_by)
    if from_environment := os.environ.get("REDIS_URL"):
        return ChosenRedis(from_environment, namespace or "", "REDIS_URL")
    return choose_again(namespace)


def choose_again(namespace: str | None) -> ChosenRedis:
    """What is meant now where nobody says which Redis: that of a `dev` which runs here or above, else the default address."""
    return _of_dev(namespace) or ChosenRedis(DEFAULT_URL, namespace or "")


def _of_dev(namespace: str | None) -> ChosenRedis | None:
    from pathlib import Path  # noqa: PLC0415 - only where nothing else says it

    from trioworkers.dev_note import find_note  # noqa: PLC0415 - as above

    note = find_note(Path.cwd())
    if note is None or not note.url:
        return None
    chosen = note.namespace if namespace is None else namespace
    return ChosenRedis(note.url, chosen, f"`trioworkers dev` (pid {note.pid})")


class HasRedis(Protocol):
    """What an App says of its Redis."""

    @property
    def settings(self) -> Settings:
        """Its options."""

    @property
    def redis_named(self) -> str | None:
        """The Redis that the program or the environment names."""


APPS: WeakSet[HasRedis] = WeakSet()
"""The Apps of this program, for `check_apps_agree`."""


def redis_of(app: HasRedis) -> ChosenRedis:
    """The Redis that an App means, as a client of it has it. Raises ConfigurationError."""
    named, namespace = app.redis_named, app.settings.namespace
    if named is None:  # what its worker has is the default; but where `dev` runs, its worker is there
        return choose(None, namespace or None, "App")
    return ChosenRedis(named, namespace, "REDIS_URL" if named == os.environ.get("REDIS_URL") else "App")


def check_apps_agree(chosen: ChosenRedis, who: str) -> None:
    """Raise ConfigurationError if this program has Apps, and none of them means the Redis that a client without a URL means.

    Two that mean different ones would both work: what one sends the other would never run.
    """
    means = []
    for app in list(APPS):
        try:
            other = redis_of(app)
        except ConfigurationError:  # it says so itself as soon as it is used
            continue
        if app.redis_named is None and getattr(app, "shards", None):
            means.append("its shards")
            continue
        if (other.url, other.namespace) == (chosen.url, chosen.namespace):
            return
        means.append(str(other))
    if means:
        raise ConfigurationError(
            f"{who} means {chosen} ({chosen.source}), and this program's App {min(means)}: what one sends, the other would "
            f"never run. Use app.client(), app.sync_client() or app.asyncio_client(), or give the client its URL and namespace"
        )


def noted_elsewhere(app: HasRedis) -> str:
    """What to tell of a worker whose App names no Redis, beside a `dev` that has one of its own; "" if all is well."""
    if app.redis_named is not None:
        return ""
    chosen = _of_dev(None)
    if chosen is None or (chosen.url, chosen.namespace) == (DEFAULT_URL, app.settings.namespace):
        return ""
    return (
        f"this worker is at {DEFAULT_URL} ({DEFAULT}), but {chosen.source} runs here and has its Redis at {chosen}, to which clients "
        "and commands that are told nothing else send: set REDIS_URL"
    )
