"""Members of batches, between fetch and start: those whose batch is cancelled don't run. Asked only while some batch is, or of one that came by itself."""

from __future__ import annotations

from collections.abc import Sequence

from trioworkers.broker.contract import Broker
from trioworkers.departures import held_unread
from trioworkers.engine import joblog
from trioworkers.engine.delivery import FETCHED, Delivery
from trioworkers.engine.permits import read_before_start
from trioworkers.engine.settler import Settler
from trioworkers.outcome import REQUEUE, Expire
from trioworkers.wire.job import Job
from trioworkers.wire.membership import BATCH_FIELD

_NAMED = f'"{BATCH_FIELD}"'.encode()


def is_member(payload: bytes) -> bool:
    """Whether it looks like that of a member."""
    return _NAMED in payload


async def without_cancelled(deliveries: Sequence[Delivery], broker: Broker, settler: Settler) -> Sequence[Delivery]:
    """Those whose batches aren't cancelled; the others end here. Raises BrokerError."""
    batches: dict[Delivery, tuple[Job, str]] = {}
    for delivery in deliveries:
        job = read_before_start(delivery, broker) if is_member(delivery.payload) else None
        if job is not None and job.batch is not None:
            batches[delivery] = job, job.batch.batch
    if not batches:
        return deliveries
    cancelled = await broker.cancelled([*dict.fromkeys(batch for _, batch in batches.values())])
    ended = {delivery: job for delivery, (job, batch) in batches.items() if batch in cancelled}
    for delivery, job in ended.items():
        if delivery.state is FETCHED:
            joblog.log_cancelled(job)
            delivery.held = held_unread(delivery.payload, delivery.held)
            settler.submit(delivery, Expire("deleted"))
        else:  # put back or taken over meanwhile
            settler.submit(delivery, REQUEUE)
    return [delivery for delivery in deliveries if delivery not in ended]
