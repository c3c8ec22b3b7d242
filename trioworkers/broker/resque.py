"""What a Resque queue has besides: jobs that wait as resque-scheduler keeps them.

Any number of schedulers may be at it, Ruby's and node-resque's, too: each takes a job from its second's list in a step that only
one can win.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from trioworkers.broker import scripts
from trioworkers.broker.moves import Broker, Due, Source, pack
from trioworkers.wire.resque import ResqueKeys


class ResqueBroker(Broker):
    """The moves of Resque's dialect."""

    keys: ResqueKeys

    async def due(self, limit: int) -> Due:
        """See `Broker.due`."""
        due = await super().due(limit)
        wait, *delayed = await self.connection.run(scripts.DUE_DELAYED, list(self.keys.waiting), [limit])
        waits = [wait_s for wait_s in (due.next_in_s, float(wait) if wait else None) if wait_s is not None]
        return attrs.evolve(due, delayed=delayed, next_in_s=min(waits, default=None))

    async def promote(
        self, source: Source, entries: Sequence[tuple[bytes, str | None, bytes]]
    ) -> tuple[int, list[str]]:
        """See `Broker.promote`."""
        if source != "delayed":
            return await super().promote(source, entries)
        keys = [*self.keys.waiting, self.keys.queues, self.keys.dead]
        moved, *errors = await self.connection.run(scripts.PROMOTE_DELAYED, keys, [pack(self._promotions(entries))])
        return moved, [error.decode(errors="replace") for error in errors]
