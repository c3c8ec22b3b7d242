"""One worker's brokers: one for each dialect that its queues speak, over the same connection, under the same lease."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from trioworkers.broker.clock import Clock
from trioworkers.broker.contract import Holder
from trioworkers.broker.goworkers_broker import GoWorkersBroker
from trioworkers.broker.moves import RedisBroker
from trioworkers.broker.redis.connection import Connection
from trioworkers.broker.resque_broker import ResqueBroker
from trioworkers.size_guard import SizeGuard
from trioworkers.wire.dialect import SIDEKIQ, Dialect
from trioworkers.wire.dialects import dialect_named
from trioworkers.wire.goworkers import GoWorkers
from trioworkers.wire.own_record import Identity
from trioworkers.wire.resque import Resque, worker_id

_KINDS: Mapping[type[Dialect], type[RedisBroker]] = {Resque: ResqueBroker, GoWorkers: GoWorkersBroker}


class Brokers:
    """See the module. `worker_namespace`: the worker's. `dialect`: what is spoken on queues that are not in `dialects`."""

    def __init__(
        self,
        connection: Connection,
        worker_namespace: str,
        holder: Holder,
        identity: Identity,
        guard: SizeGuard,
        dialect: Dialect,
        dialects: Mapping[str, Dialect],
    ) -> None:
        self._connection = connection
        self._worker_namespace = worker_namespace
        self._holder = holder
        self._identity = identity
        self._guard = guard
        self._clock = Clock()
        self._dialects = dialects
        self._brokers: dict[Dialect, RedisBroker] = {}
        self.main = self._speaking(dialect)
        """The one that sends what is enqueued, and does what is done but once."""
        self.by_queue = {queue: self._speaking(spoken) for queue, spoken in dialects.items()}
        lasts = any(isinstance(each, GoWorkersBroker) and each.shares_processes for each in self.in_use)
        for broker in self.in_use:
            broker.record_lasts = lasts
            broker.sending.foreign = {
                queue: (other.dialect, other.keys) for queue, other in self.by_queue.items() if other is not broker
            }

    @property
    def in_use(self) -> Iterable[RedisBroker]:
        """Each broker once."""
        return list(dict.fromkeys([self.main, *self.by_queue.values()]))

    def tagged(self, tag: str) -> RedisBroker:
        """The broker for a list that stands in the registry with this dialect tag. Raises ConfigurationError for an unknown one."""
        return self._speaking(dialect_named(tag or f"{SIDEKIQ.family}:{self._worker_namespace}"))

    def _speaking(self, dialect: Dialect) -> RedisBroker:
        if dialect not in self._brokers:
            queues = [queue for queue, spoken in self._dialects.items() if spoken == dialect]
            name = worker_id(self._identity.hostname, self._identity.pid, queues)
            keys = dialect.keys(self._worker_namespace)
            kind = _KINDS.get(type(dialect), RedisBroker)
            self._brokers[dialect] = kind(self._connection, keys, self._holder, self._clock, self._guard, dialect, name)
        return self._brokers[dialect]
