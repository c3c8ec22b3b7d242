"""Which Redis a client means, call by call: nearly always the one it was made for.

A client that nobody told which Redis it means finds that of a running `trioworkers dev`. This may be started, or started again, after the client
was made. So such a client looks for it again: before the first call, and before the next call after one that found no Redis. A call that has
begun keeps the Redis it began with, because what it sends was written for the namespace there.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from trioworkers.redis_url import RedisUrl, at_namespace, parse_redis_url

if TYPE_CHECKING:
    from trioworkers.jobs.client_options import ClientOptions
    from trioworkers.jobs.exchanges import Exchanges


class There:
    """One Redis that a client means, and what the client keeps for it."""

    redis: Any = None
    """The client of redis-py; None before the first call."""

    def __init__(
        self, exchanges: Exchanges, explained: Callable[[], AbstractContextManager[None]], url: RedisUrl | None = None
    ) -> None:
        self.exchanges = exchanges
        self.explained = explained
        self._url = url
        self.has_answered = False
        """Whether the last that we know of it is an answer."""

    @property
    def url(self) -> RedisUrl:
        """Where it is; of several Redises together nobody asks that."""
        if self._url is None:
            raise TypeError("several Redises have no URL in common")
        return self._url


class MeantRedis:
    """Of one client. `exchanges`: makes what the client sends from its options. Raises ConfigurationError for a bad URL."""

    def __init__(self, options: ClientOptions, exchanges: Callable[[ClientOptions], Exchanges]) -> None:
        self._exchanges = exchanges
        self._mean(options)

    def _mean(self, options: ClientOptions) -> None:
        url = at_namespace(parse_redis_url(options.chosen.url), options.chosen.namespace)
        self.there = There(self._exchanges(options), options.chosen.explained, url)
        self.options = options

    def for_call(self) -> There:
        """The Redis for a call that begins. Raises ConfigurationError if the one that is found now can't be used."""
        if self.options.may_change and not self.there.has_answered:
            options = self.options.now()
            if options.chosen != self.options.chosen:
                self._mean(options)
        return self.there
