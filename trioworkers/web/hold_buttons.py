"""Buttons for what jobs hold and belong to, and for those that come by the clock: limits, locks, batches, cron. As those of `buttons.py`."""

from __future__ import annotations

from typing import cast

from trioworkers.broker.people import batches
from trioworkers.broker.people.limits import FleetLimits, How
from trioworkers.broker.people.locks import LockDesk
from trioworkers.broker.people.periodic import PeriodicJobs
from trioworkers.broker.people.session import Session
from trioworkers.cli.tables import moment, number
from trioworkers.errors import NotFound, WrongUsage
from trioworkers.web.operations import Confirm, Operation, Pressed
from trioworkers.web.visit import Visit
from trioworkers.wording import counted

HOWS = {"open": "open", "close": "closed until somebody opens it; what runs goes on", "reset": "as the code says"}


async def limit(visit: Visit) -> Pressed:
    """Close, open or reset a limit."""
    name, how = visit.request.get("name"), visit.request.get("how")
    if how not in HOWS:
        raise WrongUsage(f"a limit can be told to {', '.join(HOWS)}")

    async def work(session: Session, operation: Operation) -> None:
        await FleetLimits(session.connection, session.keys).override(name, cast("How", how))
        operation.say(f"{name}: {HOWS[how]}")

    return await visit.site.operations.begin(f"{how} limit {name}", visit.visitor.who, work)


async def unlock(visit: Visit) -> Pressed:
    """Let a lock go."""
    lock, back = visit.request.get("lock"), visit.request.get("back")
    if not visit.request.get("sure"):
        held = await LockDesk(visit.session.connection, visit.session.keys).lock(lock)
        who = held.jid if held is not None else "nobody"
        text = f"The lock {lock} of job {who} will be given back, and another job with the same key may run at the same time."
        return Confirm(text, "/do/unlock", [("lock", lock), ("sure", "1"), ("back", back)], "let it go")

    async def work(session: Session, operation: Operation) -> None:
        jid = await LockDesk(session.connection, session.keys).release(lock)
        if not jid:
            raise NotFound(f"nobody has the lock {lock}")
        operation.say(f"{lock}: given back; job {jid} had it")

    return await visit.site.operations.begin(f"let go of the lock {lock}", visit.visitor.who, work)


async def cancel_batch(visit: Visit) -> Pressed:
    """Have a batch end: its members are deleted or cancelled."""
    batch, back = visit.request.get("batch"), visit.request.get("back")
    if not visit.request.get("sure"):
        state = await batches.batch_state(visit.session.connection, visit.session.keys, batch)
        if state is None:
            raise NotFound(f"there is no batch {batch}, or it is forgotten")
        text = f"Of {number(state.total)} members of batch {batch}, {number(state.pending)} have not ended: they will be deleted, or cancelled where they run."
        return Confirm(text, "/do/cancel-batch", [("batch", batch), ("sure", "1"), ("back", back)], "cancel the batch")

    async def work(session: Session, operation: Operation) -> None:
        done = await batches.cancel(session, batch)
        if done is None:
            raise NotFound(f"batch {batch} is over: nothing to cancel")
        operation.say(f"{counted(done.deleted, 'waiting member')} deleted, {number(done.stopped)} stopped")
        for problem in done.problems:
            operation.say(problem)

    return await visit.site.operations.begin(f"cancel batch {batch}", visit.visitor.who, work)


async def cron(visit: Visit) -> Pressed:
    """Run a periodic job now, pause it, have it go on, delete it."""
    name, what = visit.request.get("name"), visit.request.get("what")
    if what not in ("run", "pause", "resume", "delete"):
        raise WrongUsage("a periodic job can be told to run, pause, resume, or be deleted")
    if what == "delete" and not visit.request.get("sure"):
        fields = [("name", name), ("what", what), ("sure", "1"), ("back", "/cron")]
        return Confirm(f"The periodic job {name} will be deleted, and its history with it.", "/do/cron", fields, what)

    async def work(session: Session, operation: Operation) -> None:
        jobs = PeriodicJobs(session.connection, session.keys)
        state = await jobs.named(name)
        if what == "run":
            jid, there = await jobs.run(state)
            operation.say(f"{state.name}: job {jid} sent" if there is None else f"job {there} waits or runs already")
        elif what == "pause":
            await jobs.pause(state.name)
            operation.say(f"{state.name}: paused")
        elif what == "resume":
            operation.say(f"{state.name}: next {moment(await jobs.resume(state))}")
        elif await jobs.delete(state.name):
            operation.say(f"{state.name}: deleted")

    return await visit.site.operations.begin(f"{what} periodic job {name}", visit.visitor.who, work)
