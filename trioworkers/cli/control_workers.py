"""What the commands that speak to running workers do: find the worker, send it a message, say what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import trio

from trioworkers.broker.people.fleet_control import RECEIVED_WITHIN_S
from trioworkers.broker.people.running_jobs import bring_back, cancel_running
from trioworkers.cli.jids import find_job, place_of
from trioworkers.cli.process_list import select_processes
from trioworkers.cli.session import Session
from trioworkers.cli.tables import remark, say
from trioworkers.errors import Ambiguous, NotFound, WrongUsage
from trioworkers.printable import as_word
from trioworkers.wire.control_messages import Fate
from trioworkers.wire.keys import check_sent_to
from trioworkers.wire.process_records import Process
from trioworkers.wording import counted


async def cancel(session: Session, jid: str, then: Fate) -> None:
    """Raises NotFound if it does not run, Ambiguous if several begin so, StillRuns if it could not be stopped."""
    job = await find_job(session.inspector, jid)
    if not job.entries:
        raise job.missing()
    running = [entry for entry in job.entries if entry.place == "running"]
    if not running:
        raise NotFound(f"job {job.jid} is not running: it is {place_of(job.entries[-1])}; see `delete` and `bury`")
    for entry in running:
        say(await cancel_running(session, entry, then))


async def pause(session: Session, queues: Sequence[str], classes: Sequence[str]) -> None:
    """For all workers of now and later. Raises WrongUsage for what can't be a queue's name."""
    for queue in queues:
        if problem := check_sent_to(queue):
            raise WrongUsage(problem)
    await session.fleet.pause(queues, classes)
    for name in (*queues, *classes):
        say(f"{as_word(name)}: paused")
    known = {queue.name for queue in await session.inspector.queues()}
    processes = await session.inspector.processes()
    for queue in queues:
        serving = [process for process in processes if queue in process.queues]
        if any(not process.is_ours for process in serving):
            remark(f"a Ruby process fetches from {as_word(queue)}; only Sidekiq Pro obeys")
        if not serving and queue not in known:
            remark(f"there is no queue {as_word(queue)} yet, and nobody fetches from it")


async def resume(session: Session, queues: Sequence[str], classes: Sequence[str]) -> None:
    """For all workers; what was held of the classes goes back to its queue."""
    before = await session.fleet.paused()
    await session.fleet.resume(queues, classes)
    for name in (*queues, *classes):
        was = name in before.queues or name in before.classes
        say(f"{as_word(name)}: {'resumed' if was else 'was not paused'}")
    if classes:
        await trio.sleep(RECEIVED_WITHIN_S)  # or a worker that hasn't received it yet holds them again
        count = await bring_back(session, set(classes))
        say(f"{counted(count, 'job')} that had been held: back in the queue")


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
