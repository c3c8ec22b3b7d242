"""The step between fetch and start: which of those that were fetched may start now.

Who may not has an outcome instead, handed in here, and so gives its slot back. Without a reason to look closer the step isn't taken
at all (`Fetched.suspects` is one), so a plain job pays nothing for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trioworkers.broker.moves import Broker
from trioworkers.engine.delivery import Delivery
from trioworkers.outcome import REQUEUE, Outcome
from trioworkers.wire.job import jid_of


class Admission:
    """That of one queue. `submit`: hands in the outcome of a delivery."""

    def __init__(self, broker: Broker, submit: Callable[[Delivery, Outcome], None]) -> None:
        self._broker = broker
        self._submit = submit

    async def admit(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        """Those of them that may start. Raises BrokerError; then, and when it is cancelled, all go back to their queue."""
        try:
            await self._note_crashes(deliveries)
        except BaseException:
            for delivery in deliveries:
                self._submit(delivery, REQUEUE)
            raise
        return deliveries

    async def _note_crashes(self, deliveries: Sequence[Delivery]) -> None:
        jids = [jid_of(delivery.payload) for delivery in deliveries]
        crashes = await self._broker.crashes(jids)
        for delivery, jid in zip(deliveries, jids, strict=True):
            delivery.crashes = crashes.get(jid, 0)
