"""How the calls of a client with several Redises go, without I/O: as `exchanges.py`, each at the shard that it is for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from trioworkers.broker.spread import Places, Spread
from trioworkers.errors import BrokerError, ConfigurationError
from trioworkers.jobs.exchanges import At, AtEach, Exchange, Exchanges, Pause, Step
from trioworkers.send import Send
from trioworkers.sending import Sent
from trioworkers.wire.job import Job
from trioworkers.wire.keys import Keys
from trioworkers.wire.membership import Opening

if TYPE_CHECKING:
    from trioworkers.jobs.telemetry import Telemetry

T = TypeVar("T")


class ShardedExchanges(Exchanges):
    """One client's. `parts`: by shard."""

    def __init__(self, parts: Mapping[str, Exchanges], places: Places, telemetry: Telemetry | None) -> None:
        self._parts = parts
        self._places = places
        self._spread = Spread(places)
        self._telemetry = telemetry
        self._away: set[str] = set()
        """Those that didn't take what was last sent to them."""

    @property
    def keys(self) -> Keys:
        """Nobody could say of which Redis. Raises ConfigurationError."""
        raise ConfigurationError("this needs an App with one Redis, and this one has shards")

    def _send_these(self, jobs: Sequence[Job], when: datetime | timedelta | float | None) -> Exchange[list[Sent]]:
        """All are encoded before the first is sent; an error of one shard is raised when the others have theirs."""
        by_shard = self._spread.sorted(Send(job) for job in jobs)
        its = {name: [send.job for _, send in numbered] for name, numbered in by_shard.items()}
        parcels = {name: self._parts[name].parcels(its[name], when) for name in by_shard}
        carried = {
            name: self._parts[name].carry(its[name], parcels[name])
            for name in sorted(by_shard, key=lambda name: name in self._away)  # they have waited in vain before
        }
        there: dict[int, Sent] = {}
        failed: BrokerError | None = None
        for name, sent in (yield AtEach(carried)).items():
            if isinstance(sent, BrokerError):
                failed = failed or sent
                self._away.add(name)
            else:
                self._away.discard(name)
                there.update(zip((number for number, _ in by_shard[name]), sent, strict=True))
        if failed is not None:
            raise failed
        return [there[number] for number in range(len(jobs))]

    def periodic(self, name: str, expression: str, job: Job, **options: Any) -> Exchange[None]:
        """See `Exchanges.periodic`. Where its queue was before it is no more: it may come twice on the way, but isn't lost."""
        home = self._places.place(attrs.evolve(job, jid=name))
        yield from _at(home, self._parts[home].periodic(name, expression, job, **options))
        yield from self._delete_periodic(name, [shard for shard in self._parts if shard != home])

    def delete_periodic(self, name: str) -> Exchange[bool]:
        """See `Exchanges.delete_periodic`: of whatever shard."""
        return (yield from self._delete_periodic(name, self._parts))

    def _delete_periodic(self, name: str, shards: Iterable[str]) -> Exchange[bool]:
        found = yield AtEach({shard: self._parts[shard].delete_periodic(name) for shard in shards})
        for each in found.values():
            if isinstance(each, BrokerError):
                raise each
        return any(found.values())

    def open_batch(self, batch: str, opening: Opening) -> Exchange[None]:
        """See `Exchanges.open_batch`."""
        home = self._spread.of_batch(batch, opening)
        yield from _at(home, self._parts[home].open_batch(batch, opening))
        self._spread.batches[batch] = home

    def seal_batch(self, batch: str) -> Exchange[None]:
        """See `Exchanges.seal_batch`."""
        home = self._spread.batches[batch]
        yield from _at(home, self._parts[home].seal_batch(batch))
        del self._spread.batches[batch]

    def cancel_batch(self, batch: str) -> Exchange[bool]:
        """See `Exchanges.cancel_batch`."""
        home = self._spread.batches.pop(batch)
        return (yield from _at(home, self._parts[home].cancel_batch(batch)))

    def check(self, job: Job) -> None:
        """Raise BadJob if a job could not be sent."""
        self._parts[self._places.place(job)].check(job)

    def command(self, *words: str | bytes | int) -> Exchange[Any]:
        """Nobody could say to which Redis. Raises ConfigurationError."""
        del words
        raise ConfigurationError("this needs an App with one Redis, and this one has shards")


def _at(shard: str, exchange: Exchange[T]) -> Exchange[T]:
    """Have an exchange go at this shard."""
    try:
        step = next(exchange)
        while True:
            try:
                reply = yield At(shard, step)
            except BrokerError as error:
                step = exchange.throw(error)
            else:
                step = exchange.send(reply)
    except StopIteration as end:
        value: T = end.value
        return value


def taking_turns(exchanges: Mapping[str, Exchange[T]]) -> Exchange[dict[str, T | BrokerError]]:
    """What comes of an `AtEach`, for who can do one step at a time. One that has to pause, since its Redis is away, does so when the others have got as far as they can."""
    ended: dict[str, T | BrokerError] = {}
    pausing: dict[str, tuple[Exchange[T], Step]] = {}

    def turn(name: str, exchange: Exchange[T], step: Step | None) -> Exchange[None]:
        """Until it pauses, or ends."""
        try:
            step = step or next(exchange)
            while True:
                try:
                    reply = yield step
                except BrokerError as error:
                    step = exchange.throw(error)
                else:
                    step = exchange.send(reply)
                if isinstance(step, At) and isinstance(step.step, Pause):
                    pausing[name] = exchange, step
                    return
        except StopIteration as end:
            ended[name] = end.value
        except BrokerError as error:
            ended[name] = error

    for name, exchange in exchanges.items():
        yield from turn(name, _at(name, exchange), None)
    while pausing:
        name, (exchange, step) = next(iter(pausing.items()))
        del pausing[name]
        yield from turn(name, exchange, step)
    return ended
