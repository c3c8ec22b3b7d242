"""Limits around parts of jobs, as Redis keeps them: who has a permit within its slot, and who waits for one."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from trioworkers.broker.redis.connection import Connection
from trioworkers.broker.redis.scripts import ENDS, script
from trioworkers.wire.limit_spec import LimitSpec
from trioworkers.wire.packing import pack, unpack

WITHIN = script(__file__, "within", keys=("lease",), args=("ours", "own", "work"), preludes=ENDS)

GOES_ON = ""
"""Instead of the moment by which one waits."""
UNLEASED = "unleased"
"""Likewise: nobody knows, for our lease is gone."""


@attrs.define(eq=False)
class Part:
    """Part of an attempt that wants, or has, a permit of the limit `name`. `member`: unique; `record`: of its list. `moment`: by which it stands among those who wait."""

    record: str
    member: str
    jid: str
    queue: str
    name: str
    spec: LimitSpec
    moment: str = GOES_ON


@attrs.frozen
class Wants:
    """What the jobs of a worker want in one round: parts that begin, that are over, and that wait."""

    entering: Sequence[Part] = ()
    leaving: Sequence[Part] = ()
    asking: Sequence[Part] = ()


@attrs.frozen
class Granted:
    """Of each that enters the moment by which it waits (`GOES_ON`: it needn't), or what is wrong with its keys; and the members that may go on now."""

    moments: Sequence[str]
    members: frozenset[str]


async def within(connection: Connection, lease_key: str, lease: str, own: str, wants: Wants) -> Granted:
    """One round. May be repeated with the same parts after a lost reply."""
    entering = [(p.record, p.member, p.jid, p.queue, p.name, p.spec.stored()) for p in wants.entering]
    leaving = [(p.record, p.member, p.name, p.moment) for p in wants.leaving]
    asking = [(p.record, p.member, p.jid, p.queue, p.name, p.moment) for p in wants.asking]
    reply = await connection.run(WITHIN, [lease_key], [lease, own, pack((entering, leaving, asking))])
    moments, members = unpack(reply)
    return Granted(list(moments), frozenset(members))
