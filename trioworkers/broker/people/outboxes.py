"""Outboxes, for people: what waits in a shard for another one, and what is to be done with an entry that keeps the others from going."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import attrs

from trioworkers.broker.checks import Finding
from trioworkers.broker.people.contents import PAGE_BYTES, READ_PAGE
from trioworkers.broker.redis.connection import Connection
from trioworkers.broker.shard_outbox import DONE, PAGE, PAGE_ENTRIES, new_numbering
from trioworkers.errors import NotFound, Refused
from trioworkers.printable import as_argument
from trioworkers.wire.keys import Keys
from trioworkers.wire.outbox_entry import ID_LENGTH, OutboxEntry, decode_outbox_entry
from trioworkers.wording import counted

LATE_S = 60.0
"""What waits for longer isn't just on its way."""
MOST = 50
"""So many are looked at: each is a shard, of which an App has few, but others may write names there."""


@attrs.frozen
class OutboxState:
    """What waits for the shard `target`. An entry is what one job enqueued there. `since_s`: when the first of its jobs was enqueued, epoch seconds, if that can be read. `problem`: why the outbox can't be read."""

    target: str
    entries: int
    since_s: float | None = None
    problem: str = ""

    def is_late(self, now_s: float) -> bool:
        """Whether something waits for longer than it takes to go, or nobody knows for how long."""
        return self.since_s is None or now_s - self.since_s > LATE_S


async def outboxes(connection: Connection, keys: Keys) -> list[OutboxState]:
    """Those in which something waits, by the shard it is for; of more than `MOST` some. Raises Refused, which names the key if that is no set; BrokerError."""
    try:
        names = await connection.execute("", "SRANDMEMBER", keys.outboxes, MOST)
    except Refused as error:
        raise Refused(f"{keys.outboxes}: {error}") from error
    return [await _state(connection, keys, name) for name in sorted(each.decode(errors="replace") for each in names)]


async def _state(connection: Connection, keys: Keys, target: str) -> OutboxState:
    try:
        entries = int(await connection.execute("look", "LLEN", keys.outbox(target)))
        first = [*await _page(connection, keys, target, 0, 1)]
    except Refused as error:
        return OutboxState(target, 0, problem=str(error))
    since = [job.since_s for entry in first for job in entry.jobs if job.since_s is not None]
    return OutboxState(target, entries, min(since, default=None))


async def outbox_entries(connection: Connection, keys: Keys, target: str) -> AsyncGenerator[OutboxEntry, None]:
    """What waits for a shard, what goes next first. What goes meanwhile may be missed. Raises BrokerError."""
    start = 0
    while page := await _page(connection, keys, target, start, PAGE_ENTRIES):
        for entry in page:
            yield entry
        start += len(page)


async def _page(connection: Connection, keys: Keys, target: str, start: int, length: int) -> list[OutboxEntry]:
    raw = await connection.run(READ_PAGE, [keys.outbox(target)], ["left", start, length, PAGE_BYTES, ""], "look")
    return [decode_outbox_entry(each) for each in raw]


async def first_entry(connection: Connection, keys: Keys, target: str) -> OutboxEntry:
    """What goes next to a shard. Raises NotFound if nothing waits for it, BrokerError."""
    async with aclosing(outbox_entries(connection, keys, target)) as entries:
        async for entry in entries:
            return entry
    raise NotFound(f"nothing waits for the shard {target!r:.80}")


async def skip(connection: Connection, keys: Keys, target: str, entry_id: str) -> bool:
    """Take the first entry out if it is this one, as if it had arrived. Whether that was done: it may have gone meanwhile. Raises BrokerError."""
    outbox, numbers = keys.outbox(target), keys.outbox_numbers
    found = await connection.run(PAGE, [outbox, numbers], [target, new_numbering(), b"", 1, PAGE_BYTES])
    if not found:
        return False
    epoch, first, _, entries, _ = found
    if decode_outbox_entry(entries[0]).id != entry_id:
        return False
    args = [target, epoch, first, entries[0][:ID_LENGTH]]
    return int(await connection.run(DONE, [outbox, numbers, keys.outboxes], args)) > 0


async def outbox_findings(connection: Connection, keys: Keys, now_s: float) -> Sequence[Finding]:
    """What `doctor` says of them. Raises BrokerError."""
    findings = []
    for state in await outboxes(connection, keys):
        show = f"trioworkers outboxes show {as_argument(state.target)}"
        if state.problem:
            text = f"what waits for shard {state.target!r:.80} can't be read: {state.problem}"
            findings.append(Finding("outboxes", "problem", text, f"look at the key {keys.outbox(state.target)}"))
        elif state.is_late(now_s):
            text = f"for more than a minute something waits for shard {state.target!r:.80}: what {counted(state.entries, 'job')} enqueued there"
            advice = f"see that the shard is there, and that a worker has both; a log says what one refuses; {show}"
            findings.append(Finding("outboxes", "warning", text, advice))
    return findings
