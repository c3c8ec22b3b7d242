"""Looks at what is in Redis, for people: queues and sets, one job wherever it is, processes, totals. Writes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial

import attrs

from trioworkers.broker.people.contents import QueueState
from trioworkers.broker.people.search import Search
from trioworkers.wire import places
from trioworkers.wire.numbers import count_in
from trioworkers.wire.places import Location


@attrs.frozen
class Totals:
    """Counters since ever and of today (UTC), and what is where now: in all queues, and in each sorted set by its place's name."""

    processed: int
    failed: int
    processed_today: int
    failed_today: int
    enqueued: int
    sets: Mapping[str, int]


class Inspector(Search):
    """Looks into one Redis database. Every method raises BrokerError."""

    async def totals(self, queues: Sequence[QueueState] | None = None) -> Totals:
        """What the counters say now. `queues`: if they were asked for just now."""
        keys = self._keys
        today = datetime.fromtimestamp(await self.now_s(), UTC).strftime("%Y-%m-%d")
        names = [keys.stat(name, day) for day in ("", today) for name in ("processed", "failed")]
        counters = [count_in(count) or 0 for count in await self._read.mget(names)]
        sizes = [queue.size for queue in (await self.queues() if queues is None else queues)]
        sets = [place.name for place in places.sets()]
        waiting = await self._all([partial(self.size, Location(name)) for name in sets])
        processed, failed, processed_today, failed_today = counters
        in_sets = dict(zip(sets, waiting, strict=True))
        return Totals(processed, failed, processed_today, failed_today, sum(sizes), in_sets)

    async def job_counts(self, keys: Sequence[str]) -> list[tuple[int, int]]:
        """How many jobs of all classes ended well and failed, by each of Sidekiq's hashes of a minute or ten (`Keys.job_counts`)."""
        hashes = await self._all([partial(self._counts, key) for key in keys])
        return [(processed - failed, failed) for processed, failed in hashes]

    async def _counts(self, key: str) -> tuple[int, int]:
        fields = await self._read.hgetall(key)
        return tuple(  # type: ignore[return-value]
            sum(count_in(value) or 0 for name, value in fields.items() if name.endswith(end)) for end in (b"|p", b"|f")
        )
