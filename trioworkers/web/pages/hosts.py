"""The hosts that jobs call, by what each worker tells of them with its heartbeat: calls under way and waiting, and whose breakers are open."""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs

from trioworkers.cli.tables import duration
from trioworkers.web.pages.page import Page, Parts
from trioworkers.web.pages.snapshot import snapshot_of
from trioworkers.web.visit import Visit
from trioworkers.wire.hosts import HostState
from trioworkers.wire.process_records import Process
from trioworkers.wording import counted

ROWS = 100
SHOWN_PROCESSES = 20


@attrs.define
class HostRow:
    """One host as all workers see it. `seen_by`: process id and what that one tells."""

    host: str
    seen_by: list[tuple[str, HostState]] = attrs.field(factory=list)

    def total(self, what: str) -> int:
        """Of `calls`, `waiting`."""
        return sum(getattr(state, what) for _, state in self.seen_by)

    @property
    def paused_in(self) -> int:
        """In how many processes it is paused."""
        return sum(state.paused_s > 0 for _, state in self.seen_by)


def hosts_of(processes: Sequence[Process]) -> list[HostRow]:
    """Those that are paused first, then those for which most waits."""
    found: dict[str, HostRow] = {}
    for process in processes:
        for state in process.hosts:
            row = found.setdefault(state.host, HostRow(state.host))
            row.seen_by.append((process.process_id, state))
    rows = sorted(
        found.values(), key=lambda row: (-row.paused_in, -row.total("waiting"), -row.total("calls"), row.host)
    )
    for row in rows:
        row.seen_by.sort(key=lambda each: (-each[1].paused_s, -each[1].waiting, each[0]))
    return rows


def remark(state: HostState) -> str:
    """What is out of the ordinary."""
    failed = (
        f"{counted(state.failures, 'call')} in a row failed, the last with {state.failure}" if state.failures else ""
    )
    if math.isinf(state.paused_s):
        return f"paused until one call that is let through has an answer; {failed}"
    return f"paused for {duration(state.paused_s)} more; {failed}" if state.paused_s else failed


async def _parts(visit: Visit) -> Parts:
    rows = hosts_of((await snapshot_of(visit)).processes)
    yield "hosts.html", {"hosts": rows[:ROWS], "more": len(rows) - ROWS, "remark": remark, "most": SHOWN_PROCESSES}


HOSTS = Page("/hosts", "Hosts", _parts, live=True)
