"""What is where, at one moment: asked once a second for all pages that want to know."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import attrs

from trioworkers.broker.checks import Finding, check_eviction, check_persistence, check_role, read_info
from trioworkers.broker.people.contents import QueueState
from trioworkers.broker.people.inspection import Totals
from trioworkers.broker.people.outboxes import OutboxState, outboxes
from trioworkers.errors import Refused
from trioworkers.web.visit import Visit
from trioworkers.wire.process_records import Process

LOOK_AT_REDIS_S = 10.0


@attrs.frozen
class Snapshot:
    """What is where, at one moment."""

    now_s: float
    totals: Totals
    queues: Sequence[QueueState]
    processes: Sequence[Process]
    paused_classes: Sequence[str]
    redis: Sequence[Finding] = ()
    """What is wrong with the Redis itself: it takes no writes, is full, evicts, can't write to its disk."""

    outboxes: Sequence[OutboxState] = ()
    """What waits here for other shards."""


async def _wrong_with_redis(visit: Visit) -> Sequence[Finding]:
    """Of what one INFO says; nothing, if our user may not ask that: the doctor tells so."""
    try:
        info = await read_info(visit.session.connection)
    except Refused:
        return ()
    checks = (check_role(info), check_eviction(info), check_persistence(info, snapshots=True))
    return [each for each in checks if each.level in ("warning", "problem")]


async def _outboxes(visit: Visit) -> Sequence[OutboxState]:
    """The first of them; nothing, if our user may not look there, or its list is something else: the doctor tells so."""
    try:
        return await outboxes(visit.session.connection, visit.session.keys)
    except Refused:
        return ()


async def take(visit: Visit) -> Snapshot:
    """Ask Redis."""
    inspector = visit.session.inspector
    queues = await inspector.queues()
    paused = await visit.session.fleet.paused()
    processes = await inspector.processes()
    totals = await inspector.totals(queues)
    wrong: Sequence[Finding] = await visit.fresh("redis", partial(_wrong_with_redis, visit), LOOK_AT_REDIS_S)
    away = await _outboxes(visit)
    return Snapshot(await inspector.now_s(), totals, queues, processes, sorted(paused.classes), wrong, away)


async def snapshot_of(visit: Visit) -> Snapshot:
    """As of at most a second ago."""
    found: Snapshot = await visit.fresh("snapshot", partial(take, visit))
    return found
