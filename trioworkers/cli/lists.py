"""What `queues` and the lists of jobs do: ask the inspector, turn what it says into rows."""

from __future__ import annotations

import sys
from contextlib import aclosing

from trioworkers.broker.people.contents import FIRST_PAGE, QueueState
from trioworkers.broker.people.limits import FleetLimits
from trioworkers.cli.rows import QUEUE, columns_of, row_of
from trioworkers.cli.session import Session
from trioworkers.cli.tables import Column, Rows, duration, number, remark
from trioworkers.cli.where import Where
from trioworkers.wire.places import Location


async def entries(session: Session, source: Location, where: Where, *, limit: int, as_json: bool) -> None:
    """The jobs in a queue or a set, page by page."""
    if source.is_queue:
        source = await session.inspector.location_of(source.queue)
    now_s, total = await session.inspector.now_s(), await session.inspector.size(source)
    rows, shown, more = Rows(columns_of(source.kind), as_json=as_json), 0, False
    first = limit + 1 if limit and not where else FIRST_PAGE
    async with aclosing(session.inspector.pages(source, first)) as pages:
        async for page in pages:
            for entry in page:
                if where.matches(entry, now_s):
                    more = bool(limit) and shown == limit
                    if more:
                        break
                    rows.add(row_of(entry, now_s))
                    shown += 1
            sys.stdout.flush()
            if more:
                break
    rows.end()
    if more and where:
        remark("… and more that match: --limit 0 shows all")
    elif more:
        remark(f"… and {number(total - shown)} more: --limit 0 shows all")
    elif not shown:
        remark(f"nothing in {source}" + (" matches" if where and total else ""))


_QUEUE_COLUMNS = (
    QUEUE,
    Column("size", lambda row: number(row["size"]), right=True),
    Column("parked", lambda row: "?" if row["parked"] is None else number(row["parked"]), right=True),
    Column("latency", lambda row: duration(row["latency"]), right=True),
    Column("rate/s", lambda row: number(row["rate"]), right=True),
    Column("processes", lambda row: str(row["processes"]), right=True),
    Column("slots", lambda row: number(row["slots"]), right=True),
    Column(
        "",
        lambda row: (
            row.get("problem")
            or ("paused" if row["paused"] else row.get("dialect", "") if row["processes"] else "no consumer")
        ),
    ),
)


async def queues(session: Session, *, as_json: bool) -> None:
    """All queues that exist, have a consumer or are paused."""
    known = {queue.name: queue for queue in await session.inspector.queues()}
    processes = await session.inspector.processes()
    paused = await session.fleet.paused()
    rows = Rows(_QUEUE_COLUMNS, as_json=as_json)
    parked = await FleetLimits(session.connection, session.keys).parked_by_queue()
    names = {*known, *paused.queues, *(parked or ()), *(name for process in processes for name in process.queues)}
    for name in sorted(names):
        look = known.get(name) or QueueState(name, 0, None, name in paused.queues)
        serving = [process for process in processes if name in process.queues]
        rows.add(
            {
                "queue": name,
                "size": look.size,
                "parked": None if parked is None else parked.get(name, 0),
                "latency": None if look.latency_s is None else round(look.latency_s, 3),
                "rate": round(sum(process.rates.get(name, 0.0) for process in serving), 1),
                "processes": len(serving),
                "slots": sum(process.queues[name] for process in serving),
                "paused": look.paused,
                **({"problem": look.problem} if look.problem else {}),
                **({"dialect": look.dialect} if look.dialect else {}),
            }
        )
    rows.end()
    if not names:
        remark("no queues: nothing was ever enqueued here")
    if paused.classes and not as_json:
        remark(f"paused classes: {', '.join(sorted(paused.classes))}")
