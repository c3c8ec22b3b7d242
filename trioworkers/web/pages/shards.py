"""The first page of several shards: what is wrong in any of them right now, how much is where, what waits in one for another, the longest queues of all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import attrs

from trioworkers.shards import called
from trioworkers.web.frame import below
from trioworkers.web.http import Request, address
from trioworkers.web.pages.outboxes import waiting
from trioworkers.web.pages.problems import consumers, problems
from trioworkers.web.pages.snapshot import Snapshot

SHOWN_QUEUES = 12
EACH = 4
"""So many of a shard's problems are shown."""


@attrs.frozen
class Row:
    """A shard in the table. `away`: why it isn't known what it holds."""

    name: str
    url: Callable[..., str]
    state: Snapshot | None
    away: str
    problems: list[tuple[str, str]]

    @property
    def busy(self) -> int:
        """Slots of its processes that are."""
        return 0 if self.state is None else sum(process.busy for process in self.state.processes)

    @property
    def slots(self) -> int:
        """Those of its processes."""
        return 0 if self.state is None else sum(process.concurrency for process in self.state.processes)

    @property
    def waited_s(self) -> float | None:
        """How long the job has waited that is next and has waited longest."""
        waits = [] if self.state is None else [queue.latency_s or 0.0 for queue in self.state.queues if queue.size]
        return max(waits, default=None)


def overview_of_all(states: Mapping[str, Snapshot | str], request: Request) -> dict[str, Any]:
    """What its template shows."""
    rows = [_row(name, state, request.root) for name, state in states.items()]
    queues = [(row, queue) for row in rows if row.state is not None for queue in row.state.queues if queue.size]
    queues.sort(key=lambda each: -each[1].size)
    serving = {row.name: consumers(row.state.processes) for row in rows if row.state is not None}
    waits = [(row, each) for row in rows if row.state is not None for each in waiting(row.state, states)]
    return {
        "outboxes": waits,
        "rows": rows,
        "queues": queues[:SHOWN_QUEUES],
        "more_queues": len(queues) - SHOWN_QUEUES,
        "longest": max((queue.size for _, queue in queues), default=0),
        "consumers": serving,
        "each": EACH,
        "is_well": not any(row.away or row.problems for row in rows),
        "spread": Counter(queue.name for _, queue in queues),
        "root": request.root,
        "url": partial(address, request.root),
    }


def _row(name: str, state: Snapshot | str, root: str) -> Row:
    url = partial(address, f"{root}{below(name)}")
    if isinstance(state, str):
        return Row(called(name), url, None, state, [])
    return Row(called(name), url, state, "", problems(state))
