"""Buttons for what jobs hold and belong to: limits, locks, batches. As those of `buttons.py`."""

from __future__ import annotations

from typing import cast

from trioworkers.broker.people import batches
from trioworkers.broker.people.limits import FleetLimits, How
from trioworkers.broker.people.locks import LockDesk
from trioworkers.broker.people.session import Session
from trioworkers.cli.tables import number
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
        text = f"The lock {lock} of job {who} will be let go, and another job like it may run beside it."
        return Confirm(text, "/do/unlock", [("lock", lock), ("sure", "1"), ("back", back)], "let it go")

    async def work(session: Session, operation: Operation) -> None:
        jid = await LockDesk(session.connection, session.keys).release(lock)
        if not jid:
            raise NotFound(f"nobody has the lock {lock}")
        operation.say(f"{lock}: let go; job {jid} had it")

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
