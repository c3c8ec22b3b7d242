"""One job, wherever it is: what it is, how it failed, its payload, and while it runs where it awaits, down to the line."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing

import msgspec

from trioworkers.broker.people.besides import Besides, look_besides
from trioworkers.broker.people.running_jobs import tree_of
from trioworkers.cli.jids import Found, find_job
from trioworkers.errors import NotFound, WrongUsage
from trioworkers.web.buttons import FATES
from trioworkers.web.filters import exactly
from trioworkers.web.job_buttons import acts_for
from trioworkers.web.pages.page import Page, Parts
from trioworkers.web.picks import Pick, find_all, pick_of
from trioworkers.web.redaction import only_how, redacted_besides
from trioworkers.web.visit import Visit
from trioworkers.wire.entry import Entry
from trioworkers.wire.log_lines import LogLine
from trioworkers.wire.places import Location

SHOWN_BYTES = 12_000
"""So much of a payload is on the page; the rest has one of its own."""
SHOWN_LINES = 60


async def _entries(visit: Visit) -> list[Entry]:
    """Where the job is that is meant; nowhere if it has ended. Raises Ambiguous."""
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
    return list(found_job.entries)


async def _ended(visit: Visit, jid: str) -> Besides:
    """What is left of a job that is in no place any more. Raises NotFound if nothing is."""
    found = await look_besides(visit.session, jid)
    if not found:
        raise NotFound(str(Found(jid, ()).missing()))
    return found if visit.site.redact is None else only_how(found)


async def _parts(visit: Visit) -> Parts:
    if not visit.request.get("pick"):  # it may lie anywhere; of a picked one it is known where
        yield "looking.html", {"jid": visit.request.get("jid").strip()}
    entries = await _entries(visit)
    if not entries:
        jid = visit.request.get("jid").strip()
        besides = await _ended(visit, jid)
        yield "ended.html", {"jid": jid, "besides": besides}
        yield "besides.html", {"besides": besides}
    now_s = await visit.now_s()
    for number, entry in enumerate(entries, 1):
        shown = visit.shown(entry)
        source = Location(entry.place, entry.list_queue)
        runs = entry.place == "running"
        is_ours = runs and await _runs_with_us(visit, entry.process_id)
        pick = "" if runs else pick_of(entry).encode()
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
                "pick": pick,
                "is_ours": is_ours,
                "fates": FATES,
                "exactly": exactly,
                "size": len(entry.payload),
                "backtrace": shown.backtrace[:SHOWN_LINES],
            },
        )
        log: Sequence[LogLine] = ()
        if runs:
            reply = await tree_of(visit.session, entry.process_id, jid=entry.jid) if is_ours else None
            log = () if reply is None else reply.log
            yield "tree.html", {"reply": reply, "is_ours": is_ours}
        if number == 1:  # of a job that just moves, and is found twice, it is the same
            found = await look_besides(visit.session, entry.jid, entry.payload, log)
            yield "besides.html", {"besides": redacted_besides(entry, found, visit.site.redact)}
        text, cut = pretty(shown.payload), len(shown.payload) > SHOWN_BYTES
        yield "job_payload.html", {"entry": shown, "pick": pick, "payload": text, "cut": cut}


async def _runs_with_us(visit: Visit, process_id: str) -> bool:
    """Whether a worker of ours has it, as far as is known: one that has just stopped is taken for ours."""
    processes = await visit.session.inspector.processes()
    return all(each.is_ours for each in processes if process_id in (each.process_id, each.identity))


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
    entries = await _entries(visit)
    if not entries:
        raise NotFound(str(Found(visit.request.get("jid"), ()).missing()))
    entry = visit.shown(entries[0])
    yield "payload.html", {"entry": entry, "text": entry.payload[:WHOLE_BYTES].decode(errors="replace")}


JOB = Page("/job", "Job", _parts, slow=True)
PAYLOAD = Page("/payload", "Payload", _payload, slow=True)
