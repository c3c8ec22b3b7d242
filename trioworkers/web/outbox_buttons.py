"""The button for what waits in an outbox and can't go. As those of `buttons.py`."""

from __future__ import annotations

from trioworkers.broker.people.outboxes import first_entry
from trioworkers.broker.people.outboxes import skip as skip_entry
from trioworkers.broker.people.session import Session
from trioworkers.errors import NotFound
from trioworkers.printable import as_argument
from trioworkers.web.operations import Confirm, Operation, Pressed
from trioworkers.web.visit import Visit
from trioworkers.wording import counted

TOLD_JOBS = 20
TOLD_CHARACTERS = 2000


async def skip(visit: Visit) -> Pressed:
    """Give up what goes next to a shard, so that what comes after it goes."""
    target, entry_id = visit.request.get("target"), visit.request.get("entry")
    first = await first_entry(visit.session.connection, visit.session.keys, target)
    if first.id != entry_id:
        raise NotFound(f"entry {entry_id} isn't the first of those for shard {target} any more")
    count = counted(len(first.jobs), "job")
    if not visit.request.get("sure"):
        fields = [("target", target), ("entry", entry_id), ("sure", "1"), ("back", visit.request.get("back"))]
        keep = f"This can't be undone. To keep all of them first: trioworkers outboxes export {as_argument(target)} > jobs.jsonl"
        return Confirm(f"{count} will never come to shard {target}. {keep}", "/do/skip", fields, "skip it")
    shown = [visit.shown(job).payload for job in first.jobs[:TOLD_JOBS]]

    async def work(session: Session, operation: Operation) -> None:
        if not await skip_entry(session.connection, session.keys, target, entry_id):
            raise NotFound(f"entry {entry_id} has gone to shard {target} meanwhile")
        operation.say(f"{count} for shard {target} given up:")
        for payload in shown:
            operation.say(payload[:TOLD_CHARACTERS].decode(errors="replace"))

    return await visit.site.operations.begin(f"skip entry {entry_id} for shard {target}", visit.visitor.who, work)
