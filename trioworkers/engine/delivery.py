"""What a fetch brings: one payload on its way through the worker."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import attrs
import trio

from trioworkers.outcome import Outcome, Requeue


@attrs.frozen
class Amendment:
    """A checkpoint that is being written: `payload` takes the delivered one's place; `written` is set when it has."""

    payload: bytes
    written: trio.Event


@attrs.define(eq=False)
class Delivery:
    """A fetched payload, from its fetch until its outcome is written; it occupies a slot of its queue.

    `scope`: what its attempt runs in, once it does; `cancelled`: it was stopped by `cancel`, not by its own deadline.
    `settling`: its outcome is decided and handed in. `lost`: another worker has taken it over; nothing is to be written any more.
    `on_stop`: tells its outcome if it is stopped now. `by_hand`: makes of that what somebody wants who cancelled this very job;
    `stopped`: so it ended. `deaths`: how many workers died under it. `checkpoint`: one is handed in; `amendment`: one is being written.
    `number`: in which order they were fetched.
    """

    queue: str
    payload: bytes
    started_at: float
    scope: trio.CancelScope | None = None
    cancelled: bool = False
    settling: bool = False
    lost: bool = False
    on_stop: Callable[[], Requeue] = Requeue
    deaths: int = 0
    jid: str = ""
    job_class: str = ""
    task: trio.lowlevel.Task | None = None
    by_hand: Callable[[Requeue], Outcome] | None = None
    stopped: bool = False
    checkpoint: trio.Event | None = None
    amendment: Amendment | None = None
    number: int = attrs.field(factory=count().__next__)

    def open_scope(self, deadline: float) -> trio.CancelScope:
        """The scope for its attempt, which ends at `deadline` on `trio.current_time()`'s clock. One scope does for both: each costs."""
        self.scope = trio.CancelScope(deadline=deadline)
        if self.cancelled:
            self.scope.cancel()
        return self.scope

    def cancel(self) -> None:
        """Stop it, started or not."""
        self.cancelled = True
        if self.scope is not None:
            self.scope.cancel()

    def when_stopped(self) -> Outcome:
        """Its outcome, now that it was stopped."""
        return self.on_stop() if self.by_hand is None else self.by_hand(self.on_stop())

    def forms(self) -> tuple[bytes, ...]:
        """What may stand for it in the in-progress list: while a checkpoint is being written, either payload."""
        return (self.payload,) if self.amendment is None else (self.payload, self.amendment.payload)
