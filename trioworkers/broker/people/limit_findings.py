"""What `doctor` says of limits, and of keys of ours that somebody has written over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trioworkers.broker.checks import Finding
from trioworkers.broker.people.hold_findings import permit_findings
from trioworkers.broker.people.key_findings import written_over
from trioworkers.broker.people.limits import FleetLimits, LimitState
from trioworkers.broker.redis.connection import Connection
from trioworkers.printable import as_argument, as_word
from trioworkers.registry import KEYS
from trioworkers.wire.keys import Keys
from trioworkers.wording import counted, jobs_wait

OF_A_LIMIT = ("permits", "reserved", "waiting", "gate", "lists", "patient")
MAX_LIMITS = 200
_RESQUES = ("retry", "schedule")


async def limit_findings(connection: Connection, keys: Keys) -> Sequence[Finding]:
    """Limits that are closed, are otherwise than the code says, or that nobody declares; broken keys; what waits to be repaired. Raises BrokerError."""
    kinds = {key.name.partition(":")[2]: key.type for key in KEYS}
    once = {name: kind for name, kind in kinds.items() if name == name.lower() and name not in _RESQUES}
    findings = list(await _broken(connection, keys, once))
    if findings:  # then nobody can look further
        return findings
    states = (await FleetLimits(connection, keys).look(most=MAX_LIMITS)).limits
    findings += [finding for state in states for finding in _of_state(state)]
    each = {f"{kind}:{state.name}": kinds[f"{kind}:LIMIT"] for state in states for kind in OF_A_LIMIT}
    findings += await _broken(connection, keys, each) or await permit_findings(
        connection, keys, [state.name for state in states]
    )
    count = await connection.commands("doctor").llen(keys.repairs)
    if count:
        text = f"{counted(count, 'effect')} of jobs that ended could not be written yet"
        findings.append(Finding("limits", "warning", text, "repair the keys that are named here; workers do the rest"))
    if not findings and states:
        waiting = sum(state.waiting for state in states)
        text = f"{counted(len(states), 'limit')}, at which {jobs_wait(waiting)}"
        findings.append(Finding("limits", "ok", text))
    return findings


def _of_state(state: LimitState) -> Sequence[Finding]:
    found = []
    waits = f"; {jobs_wait(state.waiting)}" if state.waiting else ""
    if state.closed_until_s is not None and state.code is not None:
        how = "until somebody opens it" if state.closed_until_s == float("inf") else "for a while"
        advice = f"trioworkers limits open {as_argument(state.name)}"
        found.append(Finding("limits", "warning", f"{as_word(state.name)} is closed {how}{waits}", advice))
    if state.override is not None and any(state.override):
        text = f"{as_word(state.name)}: {state.spec}, though the code says {state.code or 'nothing'}"
        found.append(Finding("limits", "note", text, f"trioworkers limits reset {as_argument(state.name)}"))
    if state.code is None and state.waiting:
        text = f"{jobs_wait(state.waiting)} at {as_word(state.name)}, which no worker declares"
        found.append(
            Finding(
                "limits",
                "warning",
                text,
                "start a worker that declares it; without one they go on within eleven minutes",
            )
        )
    return found


async def _broken(connection: Connection, keys: Keys, kinds: Mapping[str, str]) -> Sequence[Finding]:
    """Of keys of ours, by their names and types, those that somebody has written over."""
    advice = "see what it is, then DEL {key}; workers write again what they know of it"
    return await written_over(connection, {f"{keys.own}{name}": kind for name, kind in kinds.items()}, advice)
