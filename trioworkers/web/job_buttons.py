"""Buttons for jobs that lie somewhere: what is done to those that are picked, or to all that match; and its undoing. As those of `buttons.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from functools import partial

import trio

from trioworkers.broker.people import acts
from trioworkers.broker.people.acts import Act, ActOnMany
from trioworkers.broker.people.session import Session
from trioworkers.cli.tables import number
from trioworkers.errors import BadPayload, NotFound, WrongUsage
from trioworkers.web.deleted import UNDO_BYTES, Deleted
from trioworkers.web.filters import parse_filter
from trioworkers.web.operations import Confirm, Operation, Pressed
from trioworkers.web.picks import Pick, find_all
from trioworkers.web.redaction import redacted
from trioworkers.web.visit import Visit
from trioworkers.wire.entry import Entry
from trioworkers.wire.places import Location, all_places, parse_location
from trioworkers.wording import counted

COUNT_S = 1.0
"""So long the jobs are counted that a button for all that match would move; then it is said how far that got."""
UNDO_PAGE = 500
GONE = "that can't be undone any more"

ACTS: Mapping[str, Callable[[], Act]] = {
    "retry": acts.retry,
    "run-now": acts.run_now,
    "requeue": acts.requeue,
    "bury": acts.bury,
    "delete": acts.delete,
}


async def act(visit: Visit) -> Pressed:
    """Something of `ACTS`: to those that are picked, or to all in a place that match a filter."""
    request = visit.request
    make = ACTS.get(request.get("act"))
    if make is None:
        raise WrongUsage(f"jobs can be {', '.join(ACTS)}, not {request.get('act')!r:.80}")
    chosen = make()
    if request.get("all"):
        return await _act_on_all(visit, chosen)
    picks = [Pick.decode(text) for text in request.all("pick")]
    if not picks:
        raise WrongUsage("no job is ticked")
    what = f"{chosen.name} {counted(len(picks), 'job')}" if len(picks) > 1 else f"{chosen.name} job {picks[0].jid}"
    return await visit.site.operations.begin(what, visit.visitor.who, partial(_act_on_picked, chosen, picks))


async def _act_on_picked(chosen: Act, picks: Sequence[Pick], session: Session, operation: Operation) -> None:
    now_s = await session.inspector.now_s()
    kept: list[Entry] = []
    gone = 0
    operation.total = len(picks)
    async for pick, entry in find_all(session.inspector, picks):  # it holds nothing open
        operation.seen += 1
        source = pick.location
        if source.is_queue:
            source = await session.inspector.location_of(source.queue)
        if entry is None:
            gone += 1
            continue
        if source.kind not in chosen.places:
            raise WrongUsage(f"what lies in {source} can't be {chosen.done}")
        try:
            swept = await session.actions.move(source, entry, chosen.to(entry, now_s))
        except BadPayload as error:
            operation.say(f"{pick.jid}: left, it can't be enqueued: {error}")
            continue
        operation.moved += swept.moved
        gone += swept.wanted - swept.moved - len(swept.errors)
        kept += [entry] * swept.moved
        for error_text in swept.errors:
            operation.say(f"{pick.jid}: left, Redis refuses: {error_text}")
    operation.say(f"{counted(operation.moved, 'job')} {chosen.done}")
    if gone:
        operation.say(f"{number(gone)} had moved on or ended meanwhile")
    _offer_undo(chosen, operation, kept)


def _offer_undo(chosen: Act, operation: Operation, kept: list[Entry]) -> None:
    sources = {Location(entry.place, entry.list_queue) for entry in kept}
    if chosen.name == "delete" and len(sources) == 1 and sum(len(e.payload) for e in kept) < UNDO_BYTES:
        operation.undo = next(iter(sources)), kept


async def _act_on_all(visit: Visit, chosen: Act) -> Pressed:
    request = visit.request
    source = parse_location(request.get("in"), chosen.places)
    if source is None:
        raise WrongUsage(f"what lies in {request.get('in')!r:.80} can't be {chosen.done}")
    if source.is_queue:
        source = await visit.session.inspector.location_of(source.queue)
    query = request.get("q")
    where = parse_filter(query)

    def matches(entry: Entry, now_s: float) -> bool:
        return where.matches(redacted(entry, visit.site.redact) if where else entry, now_s)

    if not request.get("sure"):
        return await _ask_first(visit, chosen, source, matches, filtered=bool(where))
    what = f"{chosen.name} all in {source}" + (f" that match {query}" if where else "")
    return await visit.site.operations.begin(what, visit.visitor.who, partial(_sweep, visit, chosen, source, matches))


async def _ask_first(
    visit: Visit, chosen: Act, source: Location, matches: Callable[[Entry, float], bool], *, filtered: bool
) -> Confirm:
    size = await visit.session.inspector.size(source)
    count, seen = (await _count(visit, source, matches)) if filtered else (size, size)
    far = "" if seen >= size else f" among the first {number(seen)}, and whatever matches of the others"
    text = f"{counted(count, 'job')} of {number(size)} in {source}{far} will be {chosen.done}."
    if chosen.name == "bury":
        lost = await visit.session.inspector.size(Location("dead")) + count - acts.DEAD_KEEPS
        if lost > 0:
            text += f" The dead set keeps {number(acts.DEAD_KEEPS)}, so its {number(lost)} oldest will be gone."
    request = visit.request
    fields = [(name, request.get(name)) for name in ("act", "in", "q", "back")]
    return Confirm(text, "/do/act", [*fields, ("all", "1"), ("sure", "1")], chosen.name.replace("-", " "))


async def _count(visit: Visit, source: Location, matches: Callable[[Entry, float], bool]) -> tuple[int, int]:
    count = seen = 0
    now_s = await visit.now_s()
    until = trio.current_time() + COUNT_S
    async with visit.site.scans, aclosing(visit.session.inspector.pages(source)) as pages:
        async for page in pages:
            count += sum(matches(entry, now_s) for entry in page)
            seen += len(page)
            if trio.current_time() > until:
                break
    return count, seen


async def _sweep(
    visit: Visit,
    chosen: Act,
    source: Location,
    matches: Callable[[Entry, float], bool],
    session: Session,
    operation: Operation,
) -> None:
    operation.total = await session.inspector.size(source)
    many = ActOnMany(chosen, matches, source, await session.inspector.now_s())
    deleted = Deleted(many.decide) if chosen.name == "delete" else None
    try:
        decide = many.decide if deleted is None else deleted.decide
        async with visit.site.scans, aclosing(session.actions.sweep(source, decide)) as pages:
            async for swept in pages:
                many.add(swept)
                operation.seen, operation.moved = many.seen, many.moved
                if deleted is not None:
                    deleted.end_page(swept.moved)
    finally:
        if deleted is not None and (entries := deleted.known()):
            operation.undo = source, entries[::-1] if source.is_queue else entries
        operation.say(f"{counted(many.moved, 'job')} of {source} {chosen.done}")
        if many.came_back:
            operation.say(f"{number(many.came_back)} came there since it began: left")
        if many.unreadable:
            operation.say(f"{counted(many.unreadable, 'payload')} left: can't be enqueued, no job")
        for error, count in many.errors.items():
            operation.say(f"{number(count)} left, Redis refuses: {error}")


async def undo(visit: Visit) -> Pressed:
    """Put back what an operation deleted. What can't be put back now can be once more."""
    done = visit.site.operations.get(visit.request.get("id"))
    if done is None or done.undo is None:
        raise NotFound(GONE)

    async def work(session: Session, operation: Operation) -> None:
        if done.undo is None:  # pressed twice
            raise NotFound(GONE)
        (source, left), done.undo = done.undo, None
        operation.total = len(left)
        try:
            while left:  # by how many are left a page is known again of which nobody knows whether it was put back
                restored = await session.actions.restore(source, left[:UNDO_PAGE], f"undo {done.id} {len(left)}")
                operation.moved += restored.added
                left = left[UNDO_PAGE:]
                operation.seen = operation.total - len(left)
        finally:
            if left:
                done.undo = source, left
            operation.say(f"{counted(operation.moved, 'job')} back in {source}")

    return await visit.site.operations.begin(f"undo: {done.what}", visit.visitor.who, work)


def acts_for(source: Location) -> list[str]:
    """What may be done to what lies there, what is usual first."""
    allowed = [name for name, make in ACTS.items() if source.kind in make().places]
    return sorted(
        allowed, key=lambda name: name not in {each for p in all_places() if p == source.kind for each in p.usual_for}
    )
