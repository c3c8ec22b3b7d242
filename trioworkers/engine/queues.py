"""A worker's queues: who fetches for each, and the nursery in which its jobs run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TYPE_CHECKING

import attrs
import trio

from trioworkers.broker.brokers import Brokers
from trioworkers.broker.contract import Broker, Intake, LeaseGone
from trioworkers.broker.intake import open_intake
from trioworkers.broker.moves import RedisBroker
from trioworkers.engine.consumer import Consumer
from trioworkers.engine.delivery import Delivery
from trioworkers.engine.locks import Locks
from trioworkers.engine.permits import Permits
from trioworkers.engine.quarantine import Quarantine
from trioworkers.engine.runner import Runner
from trioworkers.engine.served_queue import ServedQueue
from trioworkers.engine.settler import Settler
from trioworkers.engine.shutdown import Shutdown
from trioworkers.engine.slots import Draw, Slots
from trioworkers.engine.tending import Tending
from trioworkers.jobs.limits import FleetLimit, Limits
from trioworkers.jobs.unique import UniqueClass
from trioworkers.wire.capsule import Capsule
from trioworkers.wire.limit_spec import queue_limit_name

if TYPE_CHECKING:
    from trioworkers.engine.capsule_consumer import CapsuleConsumer

OnLeaseGone = Callable[[LeaseGone], None]
Mind = Callable[..., Awaitable[None]]
"""Runs a part of the worker, and sees to it that all ends in good order if that fails."""


@attrs.frozen
class Declared:
    """What the app says of its queues, by their names.

    Of a worker with several shards: `draws`, its way to the slots that they share, by capsule and queue ("" where all are fetched together), and `drained`,
    what lies elsewhere by now.
    """

    capsules: Sequence[Capsule]
    limits: Mapping[str, Limits] = attrs.field(factory=dict)
    queue_limits: Mapping[str, FleetLimit] = attrs.field(factory=dict)
    unique: Mapping[str, Mapping[str, UniqueClass]] = attrs.field(factory=dict)
    draws: Mapping[tuple[str, str], Draw] = attrs.field(factory=dict)
    drained: Collection[str] = ()

    @property
    def count(self) -> int:
        """How many queues there are."""
        return sum(len(capsule.weights) for capsule in self.capsules)


def fetched_together(capsule: Capsule, queue_limits: Mapping[str, FleetLimit], drained: Collection[str] = ()) -> bool:
    """Whether one script fetches all queues of a capsule: else each goes by itself."""
    queues = capsule.weights
    return len(queues) > 1 and queue_limits.keys().isdisjoint(queues) and not all(each in drained for each in queues)


class Queues:
    """See the module. Before `open` there are none."""

    def __init__(self, brokers: Brokers, url: str, declared: Declared) -> None:
        self._brokers = brokers
        self._url = url
        self._declared = declared
        self._block_s = max(5.0, declared.count / 2)  # many queues: the same number of commands in all
        self._consumers: list[Consumer | CapsuleConsumer] = []
        self.served: dict[str, ServedQueue] = {}

    def __repr__(self) -> str:
        return f"<Queues: {', '.join(self.served)}>"

    def open(
        self,
        runner: Runner,
        settlers: Mapping[RedisBroker, Settler],
        tending: Tending,
        on_lease_gone: OnLeaseGone,
    ) -> None:
        """Make them, and who fetches for them; nothing is fetched yet. `on_lease_gone` is told when a fetch finds our lease missing."""
        make = partial(self._serve_queue, runner, settlers, tending, Quarantine(self._brokers.main))
        draws, drained = self._declared.draws, self._declared.drained
        for capsule in self._declared.capsules:
            slots = Slots(capsule.concurrency, "strict" if capsule.strict else "weighted")
            if fetched_together(capsule, self._declared.queue_limits, drained):
                self._fetch_together(capsule, draws.get((capsule.name, "")) or slots.draw(), make, on_lease_gone)
                continue
            for queue, weight in capsule.weights.items():
                self.served[queue] = served = make(queue, draws.get((capsule.name, queue)) or slots.draw(weight))
                opening = self._intake(queue, self._brokers.by_queue[queue])
                self._consumers.append(Consumer(served, open_intake=opening, on_lease_gone=on_lease_gone))

    def _serve_queue(
        self,
        runner: Runner,
        settlers: Mapping[RedisBroker, Settler],
        tending: Tending,
        quarantine: Quarantine,
        queue: str,
        slots: Draw,
        *,
        is_fetched_with_others: bool = False,
    ) -> ServedQueue:
        broker = self._brokers.by_queue[queue]
        return ServedQueue(
            queue,
            slots,
            broker=broker,
            runner=runner,
            settler=settlers[broker],
            quarantine=quarantine,
            permits=self._permits(queue, broker, tending),
            locks=self._locks(queue, broker),
            is_fetched_with_others=is_fetched_with_others,
        )

    def _fetch_together(
        self, capsule: Capsule, slots: Draw, make: Callable[..., ServedQueue], on_lease_gone: OnLeaseGone
    ) -> None:
        from trioworkers.broker.capsule_intake import open_capsule_intake  # noqa: PLC0415 - not every app has capsules
        from trioworkers.engine.capsule_consumer import CapsuleConsumer  # noqa: PLC0415 - as above

        its = {queue: make(queue, slots, is_fetched_with_others=True) for queue in capsule.weights}
        self.served |= its
        brokers = {queue: self._brokers.by_queue[queue] for queue in its}
        told = self._declared.queue_limits
        limits = {queue: (queue_limit_name(told[queue].name), told[queue].spec) for queue in its if queue in told}
        opening = partial(open_capsule_intake, brokers, self._url, self._block_s, capsule, limits)
        self._consumers.append(
            CapsuleConsumer([*its.values()], open_intake=opening, on_lease_gone=on_lease_gone, has_limits=bool(limits))
        )

    def _intake(self, queue: str, broker: RedisBroker) -> Callable[[str], AbstractAsyncContextManager[Intake]]:
        if queue in self._declared.drained:
            from trioworkers.broker.draining import open_drain  # noqa: PLC0415 - few apps have several Redises

            return partial(open_drain, broker)
        limit = self._declared.queue_limits.get(queue)
        if limit is None:
            return partial(open_intake, broker, self._url, self._block_s)
        from trioworkers.broker.holds.queue_limit import open_limited_intake  # noqa: PLC0415 - few queues have one

        name = queue_limit_name(limit.name)
        return partial(open_limited_intake, broker, self._url, self._block_s, name, limit.spec)

    def _permits(self, queue: str, broker: Broker, tending: Tending) -> Permits | None:
        limits = self._declared.limits.get(queue)
        return None if limits is None else Permits(queue, broker, limits, tending.expect)

    def _locks(self, queue: str, broker: Broker) -> Locks | None:
        unique = self._declared.unique.get(queue)
        return None if unique is None else Locks(queue, broker, unique)

    def running(self) -> Iterator[Delivery]:
        """All that takes a slot."""
        return (delivery for served in self.served.values() for delivery in served.deliveries)

    async def run(self, shutdown: Shutdown, mind: Mind, on_failure: Callable[[], None]) -> None:
        """Serve them until the worker is told to stop and nothing runs any more.

        `mind` runs what must not be cancelled by others: an intake, the nurseries of jobs. `on_failure` is told when a nursery falls over: jobs are shielded from what goes on around them, so nobody
        else would end those of the other queues.
        """
        async with trio.open_nursery() as nursery:
            for consumer in self._consumers:
                nursery.start_soon(self._serve, consumer, shutdown, mind, on_failure)

    async def _serve(
        self, consumer: Consumer | CapsuleConsumer, shutdown: Shutdown, mind: Mind, on_failure: Callable[[], None]
    ) -> None:
        try:
            async with trio.open_nursery() as nursery:
                for served in consumer.queues:
                    await nursery.start(served.jobs.run, mind)
                with shutdown.intake():
                    await mind(consumer.run)
                # A quiet worker stays until it is stopped, however idle: who made it quiet may want to look at it first.
                await shutdown.told.wait()
                for served in consumer.queues:
                    served.jobs.close()
        except BaseException:
            on_failure()
            raise
