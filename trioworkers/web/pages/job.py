"""One job, wherever it is: what it is, how it failed, its payload, and while it runs where it awaits, down to the line."""

from __future__ import annotations

from contextlib import aclosing

import msgspec

from trioworkers.broker.people.running_jobs import tree_of
from trioworkers.cli.jids import find_job
from trioworkers.errors import NotFound, WrongUsage
from trioworkers.web.buttons import FATES, acts_for
from trioworkers.web.filters import exactly
from trioworkers.web.pages.page import Page, Parts
from trioworkers.web.picks import Pick, find_all, pick_of
from trioworkers.web.visit import Visit
from trioworkers.wire.entry import Entry
from trioworkers.wire.places import Location

SHOWN_BYTES = 12_000
"""So much of a payload is on the page; the rest has one of its own."""
SHOWN_LINES = 60


async def _entries(visit: Visit) -> list[Entry]:
    """Where the job is that is meant. Raises NotFound or Ambiguous."""
    inspector = visit.session.inspector
    if text := visit.request.get("pick"):
        picks = [Pick.decode(text)]
        async with aclosing(find_all(inspector, picks)) as found:
            async for _, entry in found:
                if entry is not None:
                    return [entry]
        jid = picks[0].jid
    else:
        jid = visit.request.get("jid").strip()
    if not jid:
        raise WrongUsage("say which job, by its jid")
    async with visit.site.scans:
        found_job = await find_job(inspector, jid)
    if not found_job.entries:
        raise NotFound(str(found_job.missing()))
    return list(found_job.entries)


async def _parts(visit: Visit) -> Parts:
    entries = await _entries(visit)
    now_s = await visit.now_s()
    for number, entry in enumerate(entries, 1):
        shown = visit.shown(entry)
        source = Location(entry.place, entry.list_queue)
        payload = shown.payload
        yield (
            "job.html",
            {
                "entry": shown,
                "place_number": number,
                "source": source,
                "place": source.kind,
                "now_s": now_s,
                "crashes": await visit.session.inspector.crashes(entry.jid),
                "acts": acts_for(source) if visit.may_write else [],
                "pick": "" if entry.place == "running" else pick_of(entry).encode(),
                "fates": FATES,
                "exactly": exactly,
                "payload": pretty(payload),
                "size": len(entry.payload),
                "cut": len(payload) > SHOWN_BYTES,
                "backtrace": shown.backtrace[:SHOWN_LINES],
            },
        )
        if entry.place == "running":
            reply = await tree_of(visit.session, entry.process_id, jid=entry.jid)
            yield "tree.html", {"reply": reply}


def pretty(payload: bytes) -> str:
    """Indented, if it is small enough to be shown whole; else its beginning, as it is."""
    if len(payload) <= SHOWN_BYTES:
        try:
            return msgspec.json.format(payload, indent=2).decode(errors="replace")
        except (ValueError, RecursionError):
            pass
    return payload[:SHOWN_BYTES].decode(errors="replace")


WHOLE_BYTES = 8_000_000


async def _payload(visit: Visit) -> Parts:
    entry = visit.shown((await _entries(visit))[0])
    yield "payload.html", {"entry": entry, "text": entry.payload[:WHOLE_BYTES].decode(errors="replace")}


JOB = Page("/job", "Job", _parts, slow=True)
PAYLOAD = Page("/payload", "Payload", _payload, slow=True)
