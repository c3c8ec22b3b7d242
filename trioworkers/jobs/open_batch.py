"""Batches that take members while others run already: that of a running job, and one that a client holds open."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol, Self

import attrs

from trioworkers.errors import BadJob, BrokerError
from trioworkers.jobs.batch import Batch, Members, check_name, members_of, not_cancelled, waited_for
from trioworkers.send import Send
from trioworkers.sending import Met
from trioworkers.wire.job import Job, new_jid
from trioworkers.wire.membership import OnFailure, Opening

if TYPE_CHECKING:
    from types import TracebackType


@attrs.frozen
class JobBatch:
    """The batch of a running job, `ctx.batch`. `id`: by which commands know it."""

    id: str
    _send: Callable[[Sequence[Job]], None] = attrs.field(repr=False, eq=False)
    _sends: Sequence[Send] = attrs.field(default=(), repr=False, eq=False)

    def add(
        self, *jobs: Job | Batch, name: str = "", after: Iterable[Members] = (), on_failure: OnFailure = "wait"
    ) -> Members:
        """Send members together with this job's success, in one step; so the batch can't be over before. A Batch becomes one that lies in this one.

        `name`, `after`, `on_failure`: as `Batch.add` has them; `after` is for what this attempt has added before. If another member has the name, this attempt fails when
        it has ended: nothing is sent then. Raises BadJob.
        """
        before = waited_for(self.id, after, on_failure)
        if name:
            check_name(name, len(jobs), self._names())
        plain = [job for job in jobs if not isinstance(job, Batch)]
        if before and len(plain) < len(jobs):
            raise BadJob("a batch in a batch waits for nothing: have its first jobs added by one that does")
        if name and not plain:
            raise BadJob(f"name={name!r} is for a job, not for a batch in this one")
        members = members_of(plain, self.id, before, on_failure, name)
        for job in jobs:
            if isinstance(job, Batch):
                self._send(job.members(parent=self.id))
        self._send(members)
        return Members.of(self.id, members)

    def _names(self) -> set[str]:
        """Of those that this attempt has added."""
        there = (send.job.batch for send in self._sends)
        return {each.name for each in there if each is not None and each.batch == self.id}


class _Sends(Protocol):
    """How an open batch sends."""

    async def open_batch(self, batch: str, opening: Opening) -> None:
        """Have it come into being, without members."""

    async def seal_batch(self, batch: str) -> None:
        """No more members come from outside."""

    async def cancel_batch(self, batch: str) -> bool:
        """Take no more members, and tell so."""

    async def send(self, sends: Iterable[Send]) -> Met:
        """Send members; whom they met."""


class OpenBatch:
    """A batch to which members are added while some of them may run already: any number, sent as they come. See `Client.batch`."""

    def __init__(self, sends: _Sends, opening: Opening) -> None:
        self.id = new_jid()
        self._sends = sends
        self._opening = opening
        self._names: set[str] = set()
        self._is_open = False

    def __repr__(self) -> str:
        return f"<OpenBatch {self.id} {self._opening.description!r}>"

    async def add(
        self, *jobs: Job, name: str = "", after: Iterable[Members] = (), on_failure: OnFailure = "wait"
    ) -> Members:
        """Send members; returns what other members can wait for. The options are as those of `Batch.add`; whoever is waited for may have ended by then.

        Raises as `Client.enqueue` does. Cancelled: likewise.
        """
        if not self._is_open:
            raise RuntimeError("members are added inside the block: async with client.batch() as batch")
        members = members_of(jobs, self.id, waited_for(self.id, after, on_failure), on_failure, name)
        if name:
            check_name(name, len(jobs), self._names)
            self._names.add(name)
        return Members.of(self.id, members, await self._sends.send(map(Send, members)))

    async def __aenter__(self) -> Self:
        await self._sends.open_batch(self.id, self._opening)
        self._is_open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_open = False
        if error is None:
            await self._sends.seal_batch(self.id)
        elif not isinstance(error, GeneratorExit):  # in which nothing can be awaited
            try:
                await self._sends.cancel_batch(self.id)
            except BrokerError as second:
                error.add_note(not_cancelled(self.id, second))
