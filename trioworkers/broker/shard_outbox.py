"""The outbox of one shard: what its jobs enqueue into other shards, and what other shards have sent here.

It is written like a queue, in the step in which the job ends; so there is no outcome without what it enqueued, and nothing sent twice by an attempt that is repeated. Any
worker that has both Redises takes its entries over, in their order, at least once. The receiver keeps of each outbox the number of the last entry, and
its id: so an entry that comes again, from another worker or late, finds nothing to do. If a Redis was set back (a failover lost writes), the
entry with that number is another one; then its outbox is numbered anew, rather than lose what is new in it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs

from trioworkers.broker.redis.connection import Connection
from trioworkers.broker.redis.scripts import ENDS, script
from trioworkers.broker.sender import Sender
from trioworkers.broker.spread import Near, Places
from trioworkers.send import Send
from trioworkers.sending import Sending
from trioworkers.wire.keys import Keys

PAGE = script(
    __file__,
    "outbox_page",
    keys=("outbox", "numbers"),
    args=("target", "new_epoch", "diverged", "limit", "max_bytes"),
    preludes=("pages", "numbering"),
)
DONE = script(
    __file__,
    "outbox_done",
    keys=("outbox", "numbers", "outboxes"),
    args=("target", "epoch", "last", "last_id"),
    preludes=("numbering",),
)
RECEIVE = script(
    __file__,
    "receive",
    keys=("received",),
    args=("epoch", "first", "before_id", "*entries"),
    preludes=(*ENDS, "numbering"),
)

PAGE_ENTRIES = 100
PAGE_BYTES = 1_000_000


@attrs.frozen
class OutboxPage:
    """The next entries of an outbox, of `count` in all. `epoch`: what their numbering is called; `first`: the first one's number; `before_id`: id of the one before."""

    epoch: bytes
    first: int
    before_id: bytes
    entries: Sequence[bytes]
    count: int


BEYOND, DIVERGED = "BEYOND", "DIVERGED"


@attrs.frozen
class Received:
    """How far an outbox has come. `last`, `last_id`: the last number that is here, and whose it is. `problem`: what keeps the next entry from it.

    BEYOND: that is further than the page, which may be an old one; DIVERGED: other entries came under these numbers.
    """

    last: int
    last_id: bytes
    problem: str


class ShardOutbox:
    """That of the shard `here`. `senders`: by shard; `on_away`: told that something for others is about to be written."""

    def __init__(
        self, here: str, senders: Mapping[str, Sender], places: Places, on_away: Callable[[], None] = lambda: None
    ) -> None:
        self._senders = senders
        self._near = Near(here, places)
        self.on_away = on_away
        self._connection: Connection = senders[here].connection
        self.keys: Keys = senders[here].keys

    # ── what is written with an outcome ────────────────────────────────────────────────────────────────────────────────

    def work(self, sending: Sending, sends: Iterable[Send], now_s: float) -> tuple[Any, ...]:
        """What goes out with an outcome, as `Sending.work` has it: what is for other shards goes into the outbox. Raises BadJob."""
        ours, away = self._near.sorted(sends)
        work = sending.work(ours, now_s)
        if not away:
            return work
        entries: dict[str, list[bytes]] = {}
        for (target, _), its in away.items():
            later = (_at_a_time(send, now_s) for send in its)
            parcels = self._senders[target].sending.parcels(later, now_s)
            entries.setdefault(target, []).extend(secrets.token_hex(12).encode() + parcel for parcel in parcels)
        pushes = [
            (target, self.keys.outbox(target), its, "RPUSH", self.keys.outboxes) for target, its in entries.items()
        ]
        self.on_away()
        return ([*work[0], *pushes], *work[1:])

    # ── what is done with it ───────────────────────────────────────────────────────────────────────────────────────────

    async def waiting(self) -> set[str]:
        """The shards for which there is something. Raises BrokerError."""
        return {*await self._connection.commands("outbox").smembers(self.keys.outboxes)}

    async def page(self, target: str, diverged: bytes = b"") -> OutboxPage | None:
        """The next entries for a shard; None if there are none. `diverged`: the numbering that its receiver knows otherwise. Raises BrokerError."""
        keys = [self.keys.outbox(target), self.keys.outbox_numbers]
        args = [target, new_numbering(), diverged, PAGE_ENTRIES, PAGE_BYTES]
        found = await self._connection.run(PAGE, keys, args)
        return OutboxPage(*found) if found else None

    async def done(self, target: str, epoch: bytes, received: Received) -> bool:
        """What its receiver has goes. False if it knows of entries that aren't in this outbox: its Redis was set back. Raises BrokerError."""
        keys = [self.keys.outbox(target), self.keys.outbox_numbers, self.keys.outboxes]
        return int(await self._connection.run(DONE, keys, [target, epoch, received.last, received.last_id])) >= 0

    async def receive(self, page: OutboxPage) -> Received:
        """Have what another shard's jobs sent here, each entry once. Raises BrokerError."""
        args = [page.epoch, page.first, page.before_id, *page.entries]
        last, last_id, problem = await self._connection.run(RECEIVE, [self.keys.received], args)
        return Received(last, last_id, problem.decode(errors="replace"))


def new_numbering() -> str:
    """What the numbering of an outbox may be called, if it has no name yet."""
    return secrets.token_hex(12)


def _at_a_time(send: Send, now_s: float) -> Send:
    """A delay counts from the job's end, not from when it gets to the other shard."""
    return send if send.delay_s is None else Send(send.job, at_s=now_s + send.delay_s)
