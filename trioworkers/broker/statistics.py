"""What a worker writes for Sidekiq's metrics page."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from trioworkers.broker.moves import RedisBroker
from trioworkers.broker.redis.scripts import script
from trioworkers.wire.metrics import Counts, buckets, fields
from trioworkers.wire.packing import pack

REPORT = script(
    __file__,
    "report",
    keys=("last_report", "minute_of_7", "minute_of_8", "ten_minutes", "*histogram_keys"),
    args=("ours", "number", "work"),
    preludes=("late",),
)


async def report(broker: RedisBroker, number: int, ended: Mapping[str, Counts]) -> None:
    """Count how jobs of each class ended. May be repeated with the same number after a lost reply; each report has a higher one. Raises BrokerError."""
    keys, at = broker.keys, datetime.fromtimestamp(broker.clock.now_s(), UTC)
    names = [keys.last_report(broker.holder.process_id), *keys.job_counts(at)]
    names += [key for job_class in ended for key in keys.job_times(job_class, at)]
    named = [item for job_class, counts in ended.items() for item in fields(job_class, counts)]
    body = pack((named, [buckets(counts) for counts in ended.values()]))
    await broker.connection.run(REPORT, names, [broker.holder.lease, number, body])
