"""What the commands that speak to running workers do: find the worker, send it a message, say what came of it."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import aclosing
from typing import Literal

import trio

from trioworkers.broker.people.fleet_control import RECEIVED_WITHIN_S
from trioworkers.broker.people.operator_actions import Next, Push
from trioworkers.cli.jids import find_job, place_of
from trioworkers.cli.process_list import select_processes
from trioworkers.cli.session import Session
from trioworkers.cli.tables import remark, say
from trioworkers.errors import Ambiguous, BadPayload, NotFound, TrioworkersError, WrongUsage
from trioworkers.wire.by_operator import enqueued
from trioworkers.wire.control_messages import ControlMessage, Fate
from trioworkers.wire.entry import Entry
from trioworkers.wire.keys import check_sent_to
from trioworkers.wire.places import Location
from trioworkers.wire.process_records import Process
from trioworkers.wording import counted

CANCEL_PATIENCE_S = 5.0
REPLY_WITHIN_S = CANCEL_PATIENCE_S + RECEIVED_WITHIN_S


class StillRuns(TrioworkersError):
    """What was to be stopped was not, or nobody knows."""


async def cancel(session: Session, jid: str, then: Fate) -> None:
    """Raises NotFound if it does not run, Ambiguous if several begin so, StillRuns if it could not be stopped."""
    job = await find_job(session.inspector, jid)
    if not job.entries:
        raise job.missing()
    running = [entry for entry in job.entries if entry.place == "running"]
    if not running:
        raise NotFound(f"job {job.jid} is not running: it is {place_of(job.entries[-1])}; see `delete` and `bury`")
    for entry in running:
        await _cancel_one(session, entry, then)


async def _cancel_one(session: Session, entry: Entry, then: Fate) -> None:
    worker, jid = entry.process_id, entry.jid
    processes = {process.process_id or process.identity: process for process in await session.inspector.processes()}
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
            say(f"{jid}: cancelled on {worker}; {fate}")
        case "ended" | "unknown":
            say(f"{jid}: came to its own end on {worker} before it was cancelled")
        case "stubborn":
            raise StillRuns(
                f"job {jid} was cancelled on {worker} but has not stopped within {CANCEL_PATIENCE_S:g} s: it shields itself or blocks. "
                f"When it ends on its own, that counts; if the worker is stopped first, {fate}"
            )
        case _:
            raise StillRuns(
                f"no answer from {worker} within {REPLY_WITHIN_S:g} s: it is gone, or its event loop is blocked; it may still obey"
            )


async def pause(session: Session, queues: Sequence[str], classes: Sequence[str]) -> None:
    """For all workers of now and later. Raises WrongUsage for what can't be a queue's name."""
    for queue in queues:
        if problem := check_sent_to(queue):
            raise WrongUsage(problem)
    await session.fleet.pause(queues, classes)
    for name in (*queues, *classes):
        say(f"{name}: paused")
    known = {queue.name for queue in await session.inspector.queues()}
    processes = await session.inspector.processes()
    for queue in queues:
        serving = [process for process in processes if queue in process.queues]
        if any(not process.is_ours for process in serving):
            remark(f"a Ruby process fetches from {queue}; only Sidekiq Pro obeys")
        if not serving and queue not in known:
            remark(f"there is no queue {queue} yet, and nobody fetches from it")


async def resume(session: Session, queues: Sequence[str], classes: Sequence[str]) -> None:
    """For all workers; what was held of the classes goes back to its queue."""
    before = await session.fleet.paused()
    await session.fleet.resume(queues, classes)
    for name in (*queues, *classes):
        was = name in before.queues or name in before.classes
        say(f"{name}: {'resumed' if was else 'was not paused'}")
    if classes:
        await trio.sleep(RECEIVED_WITHIN_S)  # or a worker that hasn't received it yet holds them again
        count = await _bring_back(session, set(classes))
        say(f"{counted(count, 'job')} that had been held: back in the queue")


async def _bring_back(session: Session, classes: set[str]) -> int:
    now_s = await session.inspector.now_s()

    def decide(entry: Entry) -> Next | None:
        if not entry.is_held or not classes.intersection(entry.classes):
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


async def signal(session: Session, wanted: Sequence[str] | None, signal: Literal["TSTP", "TERM"]) -> None:
    """To these processes, or all. Raises NotFound or, before anybody is told, Ambiguous."""
    chosen = [await _the_one(session, name) for name in wanted] if wanted else [await select_processes(session, None)]
    what = {"TSTP": "told to fetch no more", "TERM": "told to stop"}[signal]
    for process in {each.identity: each for some in chosen for each in some}.values():
        await session.fleet.signal(process.identity, signal)
        say(f"{process.process_id or process.identity}: {what}; received within {5 if process.is_ours else 10} s")
    if not any(chosen):
        remark("no process is running")


async def _the_one(session: Session, name: str) -> list[Process]:
    found = await select_processes(session, name)
    if len(found) > 1 and not any(name in (process.process_id, process.identity) for process in found):
        names = ", ".join(process.process_id or process.identity for process in found)
        raise Ambiguous(f"{len(found)} identities begin with {name}: {names}; which one? Nobody was told anything")
    return found
