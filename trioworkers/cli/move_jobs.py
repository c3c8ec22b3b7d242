"""What the commands that act do to jobs that wait: choose, say how many, confirm, move page by page, say what came of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import Any

import attrs
import typer

from trioworkers.broker.people.operator_actions import Delete, Next, Push, Swept, ToDead
from trioworkers.cli.jids import Found, find_job
from trioworkers.cli.session import Session
from trioworkers.cli.tables import number, remark, say
from trioworkers.cli.where import Where
from trioworkers.errors import BadPayload, ConfigurationError, NotFound, WrongUsage
from trioworkers.wire import places
from trioworkers.wire.by_operator import enqueued, retried
from trioworkers.wire.entry import Entry
from trioworkers.wire.keys import check_sent_to
from trioworkers.wire.places import Location
from trioworkers.wording import counted

DEAD_KEEPS = 9999
"""Sidekiq's limit, see `bury` in send.lua."""


@attrs.frozen
class Act:
    """One way to move a job. `done`: what was done to it. `places`: where from, what is usual first.

    `to(entry, now_s)` may raise BadPayload. `comes_back`: the job may fail and be back while we are still at it.
    """

    name: places.Act
    done: str
    places: Sequence[places.Place]
    to: Callable[[Entry, float], Next]
    comes_back: bool = False


@attrs.frozen
class Chosen:
    """Which jobs: by jid; or those of `source` that match `where`."""

    jids: Sequence[str]
    source: Location | None
    where: Where
    yes: bool
    dry_run: bool


def delete() -> Act:
    """Forget jobs."""
    return _act("delete", "deleted", lambda *_: Delete())


def bury() -> Act:
    """To the dead set, as Sidekiq's "kill"."""
    return _act("bury", "buried", lambda *_: ToDead())


def retry(queue: str | None) -> Act:
    """Sidekiq's "retry now"."""
    return _act("retry", "sent to be retried", _push(retried, queue), comes_back=True)


def run_now() -> Act:
    """What the clock would have done later."""
    return _act("run-now", "sent to run now", _push(enqueued, None), comes_back=True)


def requeue(queue: str | None) -> Act:
    """Sidekiq's "add to queue"; from a queue only into another one."""
    act = _act("requeue", "requeued", _push(enqueued, queue), comes_back=True)
    return act if queue else attrs.evolve(act, places=[place for place in act.places if place.kind != "queue"])


def _act(name: places.Act, done: str, to: Callable[..., Next], *, comes_back: bool = False) -> Act:
    return Act(name, done, places.places_for(name), to, comes_back)


def _push(renew: Callable[..., tuple[str, bytes]], queue: str | None) -> Callable[[Entry, float], Next]:
    if queue is not None and (problem := check_sent_to(queue)):
        raise WrongUsage(problem)
    return lambda entry, now_s: Push(*renew(entry.payload, now_s, queue=queue))


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
        say(f"{job.jid}: {'would be ' if dry_run else ''}{act.done}")
    elif elsewhere:
        raise NotFound(f"job {job.jid} is {' and '.join(elsewhere)}: it can't be {act.done} from there")
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
        _confirm(
            f"{counted(count, 'job')} of {number(size)} in {source} will be {act.done}{await _overflow(session, act, count)}. Go on?"
        )
    summary = _Summary(act, chosen.where, source, started_s)
    try:
        with _progress(size, summary):
            async with aclosing(session.actions.sweep(source, summary.decide)) as pages:
                async for swept in pages:
                    summary.add(swept)
    finally:
        summary.tell()


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


def _confirm(question: str, instead: str = "--yes, or --dry-run") -> None:
    if not sys.stdin.isatty():
        raise ConfigurationError(f"{question.removesuffix(' Go on?')} Nobody is there to say yes: use {instead}")
    if not typer.confirm(question):
        raise typer.Abort


class _Summary:
    """What is decided and what came of it."""

    def __init__(self, act: Act, where: Where, source: Location, started_s: float) -> None:
        self._act = act
        self._where = where
        self._source = source
        self._may_refill = source.kind.failed or not source.kind.is_due
        self._started_s = started_s
        self._unreadable = 0
        self._came_back = 0
        self._errors: dict[str, int] = {}
        self._moved = 0
        self.seen = 0

    def decide(self, entry: Entry) -> Next | None:
        """Where to with this one; None: it stays."""
        if not self._where.matches(entry, self._started_s):
            return None
        if self._act.comes_back and self._may_refill and (entry.since_s or 0.0) > self._started_s:
            self._came_back += 1  # it ran since we began, and failed again: once is what was asked for
            return None
        try:
            return self._act.to(entry, self._started_s)
        except BadPayload:
            self._unreadable += 1
            return None

    def add(self, swept: Swept) -> None:
        """One page is done."""
        self.seen += swept.seen
        self._moved += swept.moved
        for error in swept.errors:
            self._errors[error] = self._errors.get(error, 0) + 1

    def tell(self) -> None:
        """Say it, also when it was interrupted: what is done is done, the rest is as it was."""
        say(f"{counted(self._moved, 'job')} of {self._source} {self._act.done}")
        if self._came_back:
            remark(f"{number(self._came_back)} came there since the command began: left")
        if self._unreadable:
            remark(f"{counted(self._unreadable, 'payload')} left: can't be enqueued, no job")
        for error, count in self._errors.items():
            remark(f"{number(count)} left, Redis refuses: {error}")


@contextmanager
def _progress(total: int, summary: _Summary) -> Iterator[None]:
    """A bar on a terminal, if there is something to wait for."""
    if not sys.stderr.isatty() or total < 2000:
        yield
        return
    from rich.console import Console  # noqa: PLC0415 - dear to import
    from rich.progress import Progress  # noqa: PLC0415 - as above

    class Bar(Progress):
        def get_renderables(self) -> Any:
            for task in self.tasks:
                task.completed = min(summary.seen, total)
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
        _confirm(f"{counted(size, 'job')} in queue {queue} will be deleted. Go on?", "--yes")
    count = await session.actions.purge(queue)
    say(f"{counted(count, 'job')} of queue {queue} deleted")
