"""What a client of several Redises sends: each job in the shard in which it is to lie, each batch as a whole in one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import attrs
import trio

from trioworkers.broker.contract import News, Sends
from trioworkers.broker.sender import Sender
from trioworkers.broker.spread import Places, Spread
from trioworkers.errors import BrokerError
from trioworkers.send import Send
from trioworkers.sending import Met
from trioworkers.wire.dialect import Dialect
from trioworkers.wire.ended import Ended
from trioworkers.wire.job import Job
from trioworkers.wire.keys import Keys
from trioworkers.wire.membership import Opening
from trioworkers.wire.periodic import Periodic


class ShardedSends:
    """Sends over several Redises. `senders`: by shard. `here`: of a client that a job at this shard borrows."""

    def __init__(self, senders: Mapping[str, Sender], places: Places, here: str | None = None) -> None:
        self._senders = senders
        self._places = places
        self._spread = Spread(places)
        self._here = next(iter(senders.values())) if here is None else senders[here]
        self.dialect = self._here.dialect
        self.sending = self._here.sending
        self.clock = self._here.clock
        self.guard = self._here.guard

    @property
    def keys(self) -> Keys:
        """The names of our dialect's keys, and of ours."""
        return self._here.keys

    async def send(self, sends: Iterable[Send], token: str = "") -> Met:
        """See `Sender.send`. All are encoded before the first is sent; an error of one shard is raised when the others have theirs."""
        by_shard = self._spread.sorted(sends)
        parcels: dict[str, list[bytes]] = {}
        for name, numbered in by_shard.items():
            sender = self._senders[name]
            parcels[name] = []
            for parcel in sender.sending.parcels((send for _, send in numbered), sender.clock.now_s()):
                parcels[name].append(parcel)
                await trio.lowlevel.checkpoint()
        met: Met = {}

        async def carry(name: str) -> None:
            numbers = [number for number, _ in by_shard[name]]
            found = await self._senders[name].carry(parcels[name], token)
            met.update({numbers[number]: jid for number, jid in found.items()})

        errors = await _all([partial(carry, name) for name in by_shard])
        if errors:
            raise errors[0]
        return met

    async def ended(self, jid: str) -> Ended | None:
        """See `Sender.ended`: nobody knows in which shard it was. Raises BrokerError if none knows and one can't be asked."""
        found: list[Ended] = []

        async def ask(sender: Sender) -> None:
            ended = await sender.ended(jid)
            if ended is not None:
                found.append(ended)

        errors = await _all([partial(ask, sender) for sender in self._senders.values()])
        if found:
            return found[0]
        if errors:
            raise errors[0]
        return None

    @contextmanager
    def news_of_end(self, jid: str) -> Iterator[News]:
        """See `Sender.news_of_end`: it would be news of any shard, so it is looked for."""
        del jid
        yield _Looks()

    def sends_of(self, job: Job, name: str) -> Sends:
        """See `Sender.sends_of`."""
        return self._senders[self._places.place(attrs.evolve(job, jid=name))]

    async def put_periodic(self, entry: Periodic) -> None:
        """See `Sender.put_periodic`. Where its queue was before it is no more: it may come twice on the way, but isn't lost."""
        home = self.sends_of(entry.job, entry.name)
        await home.put_periodic(entry)
        await _delete_periodic(entry.name, (sender for sender in self._senders.values() if sender is not home))

    async def delete_periodic(self, name: str) -> bool:
        """See `Sender.delete_periodic`: of whatever shard."""
        return await _delete_periodic(name, self._senders.values())

    async def recorded(self, jid: str, name: str) -> tuple[bytes | None, int]:
        """See `Sender.recorded`: of a job that is here."""
        return await self._here.recorded(jid, name)

    async def member_result(self, batch: str, name: str) -> bytes | None:
        """See `Sender.member_result`: of a batch that is here, with its members."""
        return await self._here.member_result(batch, name)

    async def open_batch(self, batch: str, opening: Opening) -> None:
        """See `Sender.open_batch`."""
        home = self._spread.of_batch(batch, opening)
        await self._senders[home].open_batch(batch, opening)
        self._spread.batches[batch] = home

    async def seal_batch(self, batch: str) -> None:
        """See `Sender.seal_batch`."""
        await self._senders[self._spread.batches[batch]].seal_batch(batch)
        del self._spread.batches[batch]

    async def cancel_batch(self, batch: str) -> bool:
        """See `Sender.cancel_batch`."""
        return await self._senders[self._spread.batches.pop(batch)].cancel_batch(batch)

    def spoken_on(self, queue: str) -> tuple[Dialect, Keys]:
        """See `Sender.spoken_on`."""
        return self._here.spoken_on(queue)


class _Looks:
    """Nobody tells: who waits looks now and then."""

    async def wait(self, seconds: float) -> bool:
        """See `News`."""
        await trio.sleep(seconds)
        return False


async def _delete_periodic(name: str, senders: Iterable[Sender]) -> bool:
    found: list[bool] = []

    async def delete(sender: Sender) -> None:
        found.append(await sender.delete_periodic(name))

    errors = await _all([partial(delete, sender) for sender in senders])
    if errors:
        raise errors[0]
    return any(found)


async def _all(calls: Collection[Callable[[], object]]) -> list[BrokerError]:
    """Make calls side by side, all of them to their end; the errors of those that failed."""
    errors: list[BrokerError] = []

    async def one(call: Callable[[], object]) -> None:
        try:
            await call()  # type: ignore[misc]
        except BrokerError as error:
            errors.append(error)

    async with trio.open_nursery() as nursery:
        for call in calls:
            nursery.start_soon(one, call)
    return errors
