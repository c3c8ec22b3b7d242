"""What buttons do: one function each, through the functions of the commands. Each returns what it began, or what it wants to be confirmed first."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import cast

import msgspec
import trio

from trioworkers.broker.people.fleet_control import RECEIVED_WITHIN_S
from trioworkers.broker.people.running_jobs import bring_back, cancel_running
from trioworkers.broker.people.session import Session
from trioworkers.errors import NotFound, WrongUsage
from trioworkers.web.hold_buttons import cancel_batch, cron, limit, unlock
from trioworkers.web.job_buttons import act, undo
from trioworkers.web.operations import Confirm, Operation, Pressed
from trioworkers.web.outbox_buttons import skip
from trioworkers.web.visit import Visit
from trioworkers.wire.control_messages import Fate
from trioworkers.wire.entry import Entry
from trioworkers.wire.keys import check_sent_to
from trioworkers.wire.places import Location
from trioworkers.wording import counted

STOPPED_WITHIN_S = 1.0
"""Who stops something waits so long for its end."""
FATES: Sequence[Fate] = ("bury", "discard", "requeue")


async def purge(visit: Visit) -> Pressed:
    """Forget all that waits in a queue."""
    queue = visit.request.get("queue")
    if not visit.request.get("sure"):
        size = await visit.session.inspector.size(Location("queue", queue))
        fields = [("queue", queue), ("sure", "1"), ("back", visit.request.get("back"))]
        return Confirm(f"{counted(size, 'job')} in queue {queue} will be deleted.", "/do/purge", fields, "purge")

    async def work(session: Session, operation: Operation) -> None:
        operation.moved = await session.actions.purge(queue)
        operation.say(f"{counted(operation.moved, 'job')} of queue {queue} deleted")

    return await visit.site.operations.begin(f"purge queue {queue}", visit.visitor.who, work)


async def pause(visit: Visit) -> Pressed:
    """Pause a queue or a class for all workers."""
    queues, classes = _names(visit)

    async def work(session: Session, operation: Operation) -> None:
        await session.fleet.pause(queues, classes)
        operation.say(f"{', '.join((*queues, *classes))}: paused")

    return await visit.site.operations.begin(f"pause {', '.join((*queues, *classes))}", visit.visitor.who, work)


async def resume(visit: Visit) -> Pressed:
    """Undo `pause`; what was held of a class goes back to its queue."""
    queues, classes = _names(visit)

    async def work(session: Session, operation: Operation) -> None:
        await session.fleet.resume(queues, classes)
        operation.say(f"{', '.join((*queues, *classes))}: resumed")
        if classes:
            await trio.sleep(RECEIVED_WITHIN_S)  # or a worker that hasn't received it yet holds them again
            operation.say(f"{counted(await bring_back(session, classes), 'job')} that had been held: back in the queue")

    return await visit.site.operations.begin(f"resume {', '.join((*queues, *classes))}", visit.visitor.who, work)


def _names(visit: Visit) -> tuple[list[str], list[str]]:
    queues, classes = visit.request.all("queue"), [name for name in visit.request.all("class") if name]
    for queue in queues:
        if problem := check_sent_to(queue):
            raise WrongUsage(problem)
    if not (queues or classes):
        raise WrongUsage("say which queue or class")
    return queues, classes


_SIGNALS = {"quiet": "TSTP", "stop": "TERM"}


async def signal(visit: Visit) -> Pressed:
    """Have a process fetch no more, or stop."""
    identity, word = visit.request.get("identity"), visit.request.get("signal")
    if word not in _SIGNALS:
        raise WrongUsage(f"a process can be told to {' or '.join(_SIGNALS)}")
    if identity not in {process.identity for process in await visit.session.inspector.processes()}:
        raise NotFound(f"process {identity} is gone")

    async def work(session: Session, operation: Operation) -> None:
        await session.fleet.signal(identity, "TSTP" if word == "quiet" else "TERM")
        operation.say(
            f"{identity}: told to {'fetch no more' if word == 'quiet' else 'stop'}; it hears of it within 10 s"
        )

    return await visit.site.operations.begin(f"{word} process {identity}", visit.visitor.who, work)


async def cancel(visit: Visit) -> Pressed:
    """Cancel a running job."""
    jid, process_id, then = (visit.request.get(name) for name in ("jid", "process", "then"))
    if then not in FATES:
        raise WrongUsage(f"a cancelled job can be told to {', '.join(FATES)}")
    entry = Entry("running", msgspec.json.encode({"jid": jid}), process_id=process_id)

    async def work(session: Session, operation: Operation) -> None:
        operation.say(await cancel_running(session, entry, cast("Fate", then)))

    return await visit.site.operations.begin(f"cancel job {jid} on {process_id}", visit.visitor.who, work)


async def stop(visit: Visit) -> Pressed:
    """Stop what an operation still does."""
    done = visit.site.operations.get(visit.request.get("id"))
    if done is None:
        raise NotFound("that is not known here any more")
    done.scope.cancel()
    with trio.move_on_after(STOPPED_WITHIN_S):
        await done.ended.wait()
    return done


BUTTONS: Mapping[str, Callable[[Visit], Awaitable[Pressed]]] = {
    f"/do/{button.__name__.replace('_', '-')}": button
    for button in (act, purge, pause, resume, signal, cancel, undo, stop, limit, unlock, cancel_batch, cron, skip)
}
