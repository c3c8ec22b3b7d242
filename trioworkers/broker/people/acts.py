"""What people may do to jobs that wait, each as a value; and what is decided for each payload, and came of it, when it is done to many.

Commands and pages do it by the same values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from trioworkers.broker.people.operator_actions import Delete, Next, Push, Swept, ToDead
from trioworkers.errors import BadPayload, WrongUsage
from trioworkers.wire import places
from trioworkers.wire.by_operator import enqueued, retried
from trioworkers.wire.entry import Entry
from trioworkers.wire.keys import check_sent_to
from trioworkers.wire.places import Location

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


def delete() -> Act:
    """Forget jobs."""
    return _act("delete", "deleted", lambda *_: Delete())


def bury() -> Act:
    """To the dead set, as Sidekiq's "kill"."""
    return _act("bury", "buried", lambda *_: ToDead())


def retry(queue: str | None = None) -> Act:
    """Sidekiq's "retry now". Raises WrongUsage for what can't be a queue."""
    return _act("retry", "sent to be retried", _push(retried, queue), comes_back=True)


def run_now() -> Act:
    """What the clock would have done later."""
    return _act("run-now", "sent to run now", _push(enqueued, None), comes_back=True)


def requeue(queue: str | None = None) -> Act:
    """Sidekiq's "add to queue"; from a queue only into another one. Raises WrongUsage for what can't be a queue."""
    act = _act("requeue", "requeued", _push(enqueued, queue), comes_back=True)
    return act if queue else attrs.evolve(act, places=[place for place in act.places if place.kind != "queue"])


def _act(name: places.Act, done: str, to: Callable[..., Next], *, comes_back: bool = False) -> Act:
    return Act(name, done, places.places_for(name), to, comes_back)


def _push(renew: Callable[..., tuple[str, bytes]], queue: str | None) -> Callable[[Entry, float], Next]:
    if queue is not None and (problem := check_sent_to(queue)):
        raise WrongUsage(problem)
    return lambda entry, now_s: Push(*renew(entry.payload, now_s, queue=queue))


class ActOnMany:
    """An act on all of `source` that `matches`: what is decided for each payload, and what came of it."""

    def __init__(self, act: Act, matches: Callable[[Entry, float], bool], source: Location, started_s: float) -> None:
        self._act = act
        self._matches = matches
        self._may_refill = source.kind.failed or not source.kind.is_due
        self._started_s = started_s
        self.seen = 0
        self.moved = 0
        self.unreadable = 0
        """Payloads that can't be enqueued: no jobs."""
        self.came_back = 0
        """Jobs that came there since it began: left."""
        self.errors: dict[str, int] = {}
        """What Redis said against how many."""

    def decide(self, entry: Entry) -> Next | None:
        """Where to with this one; None: it stays."""
        if not self._matches(entry, self._started_s):
            return None
        if self._act.comes_back and self._may_refill and (entry.since_s or 0.0) > self._started_s:
            self.came_back += 1  # it ran since we began, and failed again: once is what was asked for
            return None
        try:
            return self._act.to(entry, self._started_s)
        except BadPayload:
            self.unreadable += 1
            return None

    def add(self, swept: Swept) -> None:
        """One page is done."""
        self.seen += swept.seen
        self.moved += swept.moved
        for error in swept.errors:
            self.errors[error] = self.errors.get(error, 0) + 1
