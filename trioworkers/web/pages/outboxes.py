"""What waits in a shard for another one: how much, since when, and why, as far as it can be seen from here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs

from trioworkers.broker.people.outboxes import OutboxState
from trioworkers.cli.tables import duration
from trioworkers.web.pages.snapshot import Snapshot
from trioworkers.wording import counted


@attrs.frozen
class Waiting:
    """A row. `age_s`: for how long the first of it has waited, if that is known."""

    target: str
    entries: int
    age_s: float | None
    why: str


def waiting(snapshot: Snapshot, states: Mapping[str, Snapshot | str] | None = None) -> list[Waiting]:
    """What waits in the outboxes of one shard. `states`: what is known of all, where all are looked at: of one that is away, why."""
    return [
        Waiting(
            state.target,
            state.entries,
            None if state.since_s is None else max(snapshot.now_s - state.since_s, 0.0),
            _why(state, snapshot, states),
        )
        for state in snapshot.outboxes
    ]


def _why(state: OutboxState, snapshot: Snapshot, states: Mapping[str, Snapshot | str] | None) -> str:
    if state.problem:
        return f"it can't be read: {state.problem}"
    if states is not None:
        target = states.get(state.target)
        if target is None:
            return "this App has no such shard: name it, if only to drain it"
        if isinstance(target, str):
            return f"that shard is away: {target}"
    if not any(process.is_ours for process in snapshot.processes):
        return "no worker of ours runs here that could bring it there"
    if not state.is_late(snapshot.now_s):
        return "it is on its way"
    return "that shard is away from the workers, or refuses what is first: their logs say which"


def late_outboxes(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    """For the top of the first page."""
    for state in snapshot.outboxes:
        if state.problem:
            yield "/processes", f"what waits for shard {state.target} can't be read: {state.problem}"
        elif state.is_late(snapshot.now_s):
            since = "" if state.since_s is None else f" for {duration(snapshot.now_s - state.since_s)}"
            yield (
                "/processes",
                f"what {counted(state.entries, 'job')} enqueued into shard {state.target} has waited{since}",
            )
