"""What people want of running jobs, and of those held for a paused class: cancel one, say where it awaits, bring them back."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence
from contextlib import aclosing

import trio

from trioworkers.broker.people.fleet_control import RECEIVED_WITHIN_S
from trioworkers.broker.people.operator_actions import Next, Push
from trioworkers.broker.people.session import Session
from trioworkers.errors import BadPayload, BrokerError, TrioworkersError
from trioworkers.wire.by_operator import enqueued
from trioworkers.wire.control_messages import ControlMessage, Fate, Reply
from trioworkers.wire.entry import Entry
from trioworkers.wire.places import Location
from trioworkers.wire.process_records import Process

CANCEL_PATIENCE_S = 5.0
AT_ONCE = 200
REPLY_WITHIN_S = CANCEL_PATIENCE_S + RECEIVED_WITHIN_S


class StillRuns(TrioworkersError):
    """What was to be stopped was not, or nobody knows."""


async def cancel_running(session: Session, entry: Entry, then: Fate) -> str:
    """Cancel a job where it runs; what came of it, in words. Raises StillRuns if it could not be stopped, BrokerError."""
    return await _cancel_one(session, await _processes(session), entry, then)


async def cancel_all_running(session: Session, entries: Sequence[Entry], then: Fate) -> list[str]:
    """Cancel jobs where they run, many at once: a worker hears of them once a second. What kept some from stopping, in words.

    Raises BrokerError. Cancelled, some are told, and may stop.
    """
    problems: list[str] = []
    broken: list[BrokerError] = []
    processes = await _processes(session)
    waiting = iter(entries)

    async def cancel_in_turn() -> None:
        for entry in waiting:
            try:
                await _cancel_one(session, processes, entry, then)
            except StillRuns as error:
                problems.append(str(error))
            except BrokerError as error:  # raised below: from here it would come in a group
                broken.append(error)
                nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for _ in range(min(AT_ONCE, len(entries))):
            nursery.start_soon(cancel_in_turn)
    if broken:
        raise broken[0]
    return problems


async def _processes(session: Session) -> dict[str, Process]:
    return {process.process_id or process.identity: process for process in await session.inspector.processes()}


async def _cancel_one(session: Session, processes: Mapping[str, Process], entry: Entry, then: Fate) -> str:
    worker, jid = entry.process_id, entry.jid
    if worker in processes and not processes[worker].is_ours:
        raise StillRuns(f"job {jid} runs in {worker}, which is not one of ours: it can't be cancelled from here")
    if worker not in processes:
        raise StillRuns(
            f"job {jid} is in the list of {worker}, which gives no sign of life: a live worker takes it over soon"
        )
    message = ControlMessage(secrets.token_hex(8), "cancel", jid, then, patience_s=CANCEL_PATIENCE_S)
    reply = await session.fleet.send(worker, message, REPLY_WITHIN_S)
    fate = {"bury": "it is in the dead set", "discard": "it is forgotten", "requeue": "it is back on its queue"}[then]
    match reply and reply.result:
        case "done":
            return f"{jid}: cancelled on {worker}; {fate}"
        case "ended" | "unknown":
            return f"{jid}: came to its own end on {worker} before it was cancelled"
        case "stubborn":
            raise StillRuns(
                f"job {jid} was cancelled on {worker} but has not stopped within {CANCEL_PATIENCE_S:g} s: it shields itself or blocks. "
                f"When it ends on its own, that counts; if the worker is stopped first, {fate}"
            )
        case _:
            raise StillRuns(
                f"no answer from {worker} within {REPLY_WITHIN_S:g} s: it is gone, or its event loop is blocked; it may still obey"
            )


async def tree_of(session: Session, process_id: str, *, jid: str = "", limit: int = 1) -> Reply | None:
    """Where a worker's jobs await; None if it doesn't reply."""
    message = ControlMessage(secrets.token_hex(8), "tree", jid, limit=limit)
    return await session.fleet.send(process_id, message, RECEIVED_WITHIN_S)


async def bring_back(session: Session, classes: Collection[str]) -> int:
    """Put the jobs of these classes that were held back into their queues; how many that were."""
    now_s = await session.inspector.now_s()

    def decide(entry: Entry) -> Next | None:
        if not entry.is_held or not set(classes).intersection(entry.classes):
            return None
        try:
            return Push(*enqueued(entry.payload, now_s))
        except BadPayload:
            return None

    moved = 0
    async with aclosing(session.actions.sweep(Location("scheduled"), decide)) as pages:
        async for swept in pages:
            moved += swept.moved
    return moved
