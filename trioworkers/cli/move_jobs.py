"""What the commands that act do to jobs that wait: choose, say how many, confirm, move page by page, say what came of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import Any

import attrs
import click

from trioworkers.broker.people.acts import DEAD_KEEPS, Act, ActOnMany
from trioworkers.broker.people.operator_actions import Swept
from trioworkers.cli.jids import Found, find_job
from trioworkers.cli.session import Session
from trioworkers.cli.tables import number, remark, say
from trioworkers.cli.where import Where
from trioworkers.errors import ConfigurationError, NotFound, WrongUsage
from trioworkers.printable import as_word
from trioworkers.wire import places
from trioworkers.wire.places import Location
from trioworkers.wording import counted


@attrs.frozen
class Chosen:
    """Which jobs: by jid; or those of `source` that match `where`."""

    jids: Sequence[str]
    source: Location | None
    where: Where
    yes: bool
    dry_run: bool


def location_of(text: str | None, act: Act) -> Location:
    """What `--in` says. Raises WrongUsage if it makes no sense for this command."""
    allowed = ", ".join(place.shown for place in act.places)
    usual = next((place.name for place in act.places if act.name in place.usual_for), "")
    if not (text or usual):
        raise WrongUsage(f"say where, with --in: {allowed}")
    location = places.parse_location(text or usual, act.places)
    if location is None:
        hint = "; from a queue with --to" if len(act.places) < len(places.places_for(act.name)) else ""
        raise WrongUsage(f"--in takes {allowed}, not {text!r}{hint}")
    return location


async def act_on(session: Session, act: Act, chosen: Chosen) -> None:
    """Do it. Raises NotFound if a jid is nowhere, Abort if the answer is no; Ambiguous before anything is done."""
    if chosen.jids:
        jobs = [await find_job(session.inspector, jid) for jid in chosen.jids]
        for job in {job.jid: job for job in jobs}.values():
            await _act_on_one(session, act, job, dry_run=chosen.dry_run)
    elif chosen.source is not None:
        await _act_on_many(session, act, chosen, chosen.source)


async def _act_on_one(session: Session, act: Act, job: Found, *, dry_run: bool) -> None:
    now_s = await session.inspector.now_s()
    elsewhere, moved = [], 0
    for entry in job.entries:
        source = Location(entry.place, entry.list_queue)
        if places.place(entry.place) not in act.places:
            elsewhere.append("running (see `trioworkers cancel`)" if entry.place == "running" else f"in {source}")
        elif dry_run:
            moved += 1
        else:
            moved += _checked(await session.actions.move(source, entry, act.to(entry, now_s))).moved
    if moved:
        say(f"{as_word(job.jid)}: {'would be ' if dry_run else ''}{act.done}")
    elif elsewhere:
        raise NotFound(f"job {as_word(job.jid)} is {' and '.join(elsewhere)}: it can't be {act.done} from there")
    else:
        raise job.missing()


def _checked(swept: Swept) -> Swept:
    if swept.errors:
        raise ConfigurationError(f"Redis refuses the move, the job stays where it was: {swept.errors[0]}")
    return swept


async def _act_on_many(session: Session, act: Act, chosen: Chosen, source: Location) -> None:
    size = await session.inspector.size(source)
    started_s = await session.inspector.now_s()
    if not chosen.yes or chosen.dry_run:
        count = await _count(session, source, chosen.where, started_s) if chosen.where else size
        if not count:
            remark(f"nothing in {source}" + (" matches" if chosen.where and size else ""))
            return
        if chosen.dry_run:
            say(f"{counted(count, 'job')} of {number(size)} in {source} would be {act.done}")
            return
        confirm(
            f"{counted(count, 'job')} of {number(size)} in {source} will be {act.done}{await _overflow(session, act, count)}. Go on?"
        )
    many = ActOnMany(act, chosen.where.matches, source, started_s)
    try:
        with _progress(size, many):
            async with aclosing(session.actions.sweep(source, many.decide)) as pages:
                async for swept in pages:
                    many.add(swept)
    finally:
        _tell(many, act, source)


async def _overflow(session: Session, act: Act, count: int) -> str:
    """What a full dead set loses by this; "" if nothing."""
    if act.name != "bury":
        return ""
    lost = await session.inspector.size(Location("dead")) + count - DEAD_KEEPS
    return f"; the dead set keeps {number(DEAD_KEEPS)}, so its {number(lost)} oldest will be gone" if lost > 0 else ""


async def _count(session: Session, source: Location, where: Where, now_s: float) -> int:
    count = 0
    async with aclosing(session.inspector.pages(source)) as pages:
        async for page in pages:
            count += sum(where.matches(entry, now_s) for entry in page)
    return count


def confirm(question: str, instead: str = "--yes, or --dry-run") -> None:
    """Ask, where somebody is there to answer. Raises Abort, or ConfigurationError where nobody is."""
    if not sys.stdin.isatty():
        raise ConfigurationError(f"{question.removesuffix(' Go on?')} Nobody is there to say yes: use {instead}")
    if not click.confirm(question):
        raise click.Abort


def _tell(many: ActOnMany, act: Act, source: Location) -> None:
    """Say what came of it, also when it was interrupted: what is done is done, the rest is as it was."""
    say(f"{counted(many.moved, 'job')} of {source} {act.done}")
    if many.came_back:
        remark(f"{number(many.came_back)} came there since the command began: left")
    if many.unreadable:
        remark(f"{counted(many.unreadable, 'payload')} left: can't be enqueued, no job")
    for error, count in many.errors.items():
        remark(f"{number(count)} left, Redis refuses: {error}")


@contextmanager
def _progress(total: int, many: ActOnMany) -> Iterator[None]:
    """A bar on a terminal, if there is something to wait for."""
    if not sys.stderr.isatty() or total < 2000:
        yield
        return
    from rich.console import Console  # noqa: PLC0415 - dear to import
    from rich.progress import Progress  # noqa: PLC0415 - as above

    class Bar(Progress):
        def get_renderables(self) -> Any:
            for task in self.tasks:
                task.completed = min(many.seen, total)
            return super().get_renderables()

    with Bar(console=Console(stderr=True), transient=True) as bar:
        bar.add_task("", total=total)
        yield


async def purge(session: Session, queue: str, *, yes: bool) -> None:
    """Forget all that waits in a queue. Raises NotFound if there is none."""
    size = await session.inspector.size(Location("queue", queue))
    if not size and queue not in await session.inspector.queue_names():
        raise NotFound(f"no queue {queue!r}")
    if not yes:
        confirm(f"{counted(size, 'job')} in queue {as_word(queue)} will be deleted. Go on?", "--yes")
    count = await session.actions.purge(queue)
    say(f"{counted(count, 'job')} of queue {as_word(queue)} deleted")
