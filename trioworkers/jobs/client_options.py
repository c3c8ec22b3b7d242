"""What a client is told, by its arguments or by an App: which Redis, and what is spoken there. The same for every kind of client."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, Self

import attrs

from trioworkers.chosen_redis import ChosenRedis, HasRedis, check_apps_agree, choose, choose_again, redis_of
from trioworkers.errors import ConfigurationError
from trioworkers.sending import Sending
from trioworkers.settings import Settings, settings
from trioworkers.size_guard import SizeGuard
from trioworkers.wire.dialect import Dialect
from trioworkers.wire.dialects import dialect_named
from trioworkers.wire.keys import Keys

if TYPE_CHECKING:
    from trioworkers.jobs.layout import Layout
    from trioworkers.jobs.telemetry import Telemetry


class Declared(HasRedis, Protocol):
    """What an App says to its clients."""

    @property
    def dialects(self) -> Mapping[str, Dialect]:
        """What is spoken on each queue."""

    @property
    def telemetry(self) -> Telemetry | None:
        """What traces what it sends."""

    @property
    def layout(self) -> Layout | None:
        """Which queue lies in which shard."""

    def at(self, shard: str) -> Self:
        """The same app as one of its shards has it."""


@attrs.frozen
class ClientOptions:
    """`dialects`: what is spoken on queues of which the App knows.

    `may_change`: that nobody said which Redis, so that it is the one of a `dev` that runs here; `told_namespace`: what was said of the namespace then.
    """

    chosen: ChosenRedis
    settings: Settings
    dialects: Mapping[str, Dialect] = attrs.field(factory=dict)
    telemetry: Telemetry | None = None
    may_change: bool = False
    told_namespace: str | None = None

    def now(self) -> ClientOptions:
        """The same with the Redis that is meant now: `dev` may have been started or ended since."""
        chosen = choose_again(self.told_namespace) if self.may_change else self.chosen
        if chosen == self.chosen:
            return self
        there = attrs.evolve(self.settings, redis_url=chosen.url, namespace=chosen.namespace)
        return attrs.evolve(self, chosen=chosen, settings=there)

    @property
    def dialect(self) -> Dialect:
        """What is spoken on all other queues."""
        return dialect_named(self.settings.dialect, self.chosen.namespace)

    @property
    def foreign(self) -> Mapping[str, tuple[Dialect, Keys]]:
        """The queues that speak another dialect, with their keys."""
        usual = self.dialect
        return {
            queue: (dialect, dialect.keys(self.chosen.namespace))
            for queue, dialect in self.dialects.items()
            if dialect != usual
        }

    def sending(self) -> Sending:
        """What makes calls of jobs."""
        keys = self.dialect.keys(self.chosen.namespace)
        return Sending(keys, self.dialect, SizeGuard(self.settings), self.foreign)


def given_options(
    who: str,
    url: str | None,
    namespace: str | None,
    dialect: str | None,
    max_payload_bytes: int | None,
    large_payload_bytes: int | None,
) -> ClientOptions:
    """What a client's arguments say, else the environment, else a `dev` that runs here. Raises ConfigurationError.

    `who`: the client, for messages. One without a URL means what the program's Apps mean, or is refused.
    """
    sizes = {"max_payload_bytes": max_payload_bytes, "large_payload_bytes": large_payload_bytes}
    told = settings({"redis_url": url, "namespace": namespace, "dialect": dialect, **sizes}, os.environ)
    told_namespace = told.namespace or namespace
    chosen = choose(url, told_namespace, "the client's URL")
    if url is None:
        check_apps_agree(chosen, who)
    there = attrs.evolve(told, redis_url=chosen.url, namespace=chosen.namespace)
    may_change = url is None and not os.environ.get("REDIS_URL")
    return ClientOptions(chosen, there, may_change=may_change, told_namespace=told_namespace)


def options_of(app: Declared) -> ClientOptions:
    """What an App says. Raises ConfigurationError."""
    chosen = redis_of(app)
    if chosen.url == "embedded:":
        raise ConfigurationError(
            "the App's Redis is embedded in its worker, and other processes can't find it: "
            "use ctx.client in its jobs, or embedded:DIRECTORY, or a server"
        )
    return ClientOptions(
        chosen,
        app.settings,
        app.dialects,
        app.telemetry,
        may_change=app.redis_named is None,
        told_namespace=app.settings.namespace or None,
    )


def options_by_shard(app: Declared, layout: Layout) -> dict[str, ClientOptions]:
    """The same of each of its shards. Raises ConfigurationError."""
    return {name: options_of(app.at(name)) for name in layout.names}
