"""What `limits` does: shows what is limited over the fleet, who holds and who waits; has it be otherwise than the code says."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from trioworkers.broker.people.limits import FleetLimits, How, LimitState
from trioworkers.cli.session import Session
from trioworkers.cli.tables import Column, Rows, duration, number, remark, say
from trioworkers.errors import NotFound
from trioworkers.printable import as_argument, as_word
from trioworkers.wire.limit_spec import LimitSpec

MOST = 500
_COLUMNS = (
    Column("limit", lambda row: row["limit"], wide=True),
    Column("numbers", lambda row: row["numbers"]),
    Column("held", lambda row: number(row["held"]), right=True),
    Column("kept", lambda row: number(row["kept"]), right=True),
    Column("waiting", lambda row: number(row["waiting"]), right=True),
    Column("", lambda row: row["remark"], wide=True),
)
_HOLDERS = (
    Column("holds", lambda row: row["limit"]),
    Column("jid", lambda row: row["jid"]),
    Column("process", lambda row: row["process"]),
    Column("queue", lambda row: row["queue"]),
    Column("", lambda row: "within its slot" if row["within"] else ""),
)
_WAITERS = (
    Column("waits", lambda row: row["limit"]),
    Column("jid", lambda row: row["jid"]),
    Column("queue", lambda row: row["queue"]),
    Column("for", lambda row: duration(row["age"]), right=True),
    Column("", lambda row: "within its slot" if row["within"] else "parked"),
)


async def limits(session: Session, *, as_json: bool) -> None:
    """All limits."""
    found = await FleetLimits(session.connection, session.keys).look(most=MOST)
    now_s = await session.inspector.now_s()
    _list(found.limits, now_s, as_json=as_json)
    if not found.limits:
        remark("no limit: no worker that declares one has run here lately")
    if len(found.limits) == MOST:
        remark(f"… and perhaps more: {MOST} are shown")


async def one_limit(session: Session, name: str, *, as_json: bool) -> None:
    """One limit, and those by its arguments: who holds, who waits. Raises NotFound."""
    found = await FleetLimits(session.connection, session.keys).look(name, most=MOST)
    if not found.limits:
        raise NotFound(f"no limit is called {as_word(name)}")
    now_s = await session.inspector.now_s()
    _list(found.limits, now_s, as_json=as_json)
    holders, waiters = Rows(_HOLDERS, as_json=as_json), Rows(_WAITERS, as_json=as_json)
    for each in found.holders:
        holders.add(
            {
                "limit": each.limit,
                "jid": each.jid,
                "process": each.process_id,
                "queue": each.queue,
                "within": each.within,
                "holds": True,
            }
        )
    holders.end()
    for waiter in found.waiters:
        age_s = now_s - waiter.since_s
        waiters.add(
            {
                "limit": waiter.limit,
                "jid": waiter.jid,
                "queue": waiter.queue,
                "age": age_s,
                "within": waiter.within,
                "holds": False,
            }
        )
    waiters.end()


def _list(states: Sequence[LimitState], now_s: float, *, as_json: bool) -> None:
    rows = Rows(_COLUMNS, as_json=as_json)
    for state in states:
        rows.add(_row(state, now_s))
    rows.end()


def _row(state: LimitState, now_s: float) -> Mapping[str, Any]:
    closed_s = None if state.closed_until_s is None else state.closed_until_s - now_s
    return {
        "limit": state.name,
        "numbers": str(state.spec),
        "concurrency": state.spec.concurrency or None,
        "interval": state.spec.interval_s or None,
        "burst": state.spec.burst,
        "held": state.held,
        "kept": state.kept,
        "waiting": state.waiting,
        "closed": None if closed_s is None else closed_s if closed_s < math.inf else True,
        "override": state.override is not None,
        "remark": _remark(state, closed_s),
    }


def _remark(state: LimitState, closed_s: float | None) -> str:
    said = [state.problem] if state.problem else []
    if closed_s is not None:
        declared = state.code is not None
        until = f"for {duration(closed_s)}" if closed_s < math.inf else "until `limits open`"
        said.append(f"closed {until}" if declared else "closed until somebody declares it")
    if state.override is not None and any(state.override):
        said.append(f"instead of {state.code} in code" if state.code else "set by `limits set`")
    return "; ".join(said)


async def change(
    session: Session,
    name: str,
    how: How,
    *,
    concurrency: int | None = None,
    interval_s: float | None = None,
    burst: int | None = None,
    close_s: float = 0.0,
) -> None:
    """Have it be otherwise, and say how it is now. Raises NotFound."""
    fleet = FleetLimits(session.connection, session.keys)
    await fleet.override(name, how, concurrency=concurrency, interval_s=interval_s, burst=burst, close_s=close_s)
    state = next((each for each in (await fleet.look(name)).limits if each.name == name), None)
    if how == "close":
        until = f"for {duration(close_s)}" if close_s else f"until `trioworkers limits open {as_argument(name)}`"
        say(f"{as_word(name)}: closed {until}; what runs goes on")
    elif how == "open":
        say(f"{as_word(name)}: open")
    elif how == "reset":
        say(f"{as_word(name)}: {_numbers(state)}, as the code says")
    else:
        said = "" if state is None or state.code is None else f" instead of {state.code} in code"
        say(
            f"{as_word(name)}: {_numbers(state)}{said}, for all workers, until `trioworkers limits reset {as_argument(name)}`"
        )


def _numbers(state: LimitState | None) -> str:
    spec = LimitSpec(0) if state is None else state.spec
    return str(spec)
