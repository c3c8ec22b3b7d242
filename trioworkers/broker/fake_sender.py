"""The sending side of the broker in memory; all that a `Client` needs."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

import trio

from trioworkers.broker.contract import (
    News,
    Sends,
)
from trioworkers.broker.fake_intake import FakeNews
from trioworkers.broker.fake_store import FakeStore
from trioworkers.send import Send
from trioworkers.sending import Met, duplicate
from trioworkers.wire.ended import Ended, decode_ended
from trioworkers.wire.job import Job
from trioworkers.wire.membership import Opening
from trioworkers.wire.periodic import Periodic


class FakeSender(FakeStore):
    """See `Sender`."""

    async def send(self, sends: Iterable[Send], token: str = "") -> Met:
        """See `Sender.send`."""
        sends = list(sends)
        self.sending.work(sends, self.clock.now_s(), self.guard.check)  # refuses what can't be sent before anything is

        def move() -> Met:
            self.batches.check([send.job for send in sends])
            there = self.locks.refused(send.job for send in sends)
            if there is not None:
                raise duplicate(there)
            return self._send(sends)

        return await self._call(move)

    def sends_of(self, job: Job, name: str) -> Sends:
        """See `Sender.sends_of`."""
        del job, name
        return self

    async def ended(self, jid: str) -> Ended | None:
        """See `Sender.ended`."""
        text = await self._call(lambda: self.held.ended(jid), looks=True)
        return None if text is None else decode_ended(text)

    def news_of_end(self, jid: str) -> AbstractContextManager[News]:
        """See `Sender.news_of_end`."""
        del jid  # any move may be its end
        return nullcontext(FakeNews(self))

    async def recorded(self, jid: str, name: str) -> tuple[bytes | None, int]:
        """See `Sender.recorded`."""

        def look() -> tuple[bytes | None, int]:
            steps = self.held.steps.get(jid, {})
            return steps.get(name), len(steps)

        return await self._call(look, looks=True)

    async def member_result(self, batch: str, name: str) -> bytes | None:
        """See `Sender.member_result`."""

        def look() -> bytes | None:
            known = self.batches.by_id.get(batch)
            return None if known is None else known.results.get(name)

        return await self._call(look, looks=True)

    async def open_batch(self, batch: str, opening: Opening) -> None:
        """See `Sender.open_batch`."""

        def move() -> None:
            self.batches.check_opening(batch, opening)
            self.batches.open(batch, opening)

        await self._call(move)

    async def seal_batch(self, batch: str) -> None:
        """See `Sender.seal_batch`."""

        def move() -> None:
            known = self.batches.by_id.get(batch)
            if known is None or not known.cancelled:
                self.batches.check_addition(batch, known)
            self.batches.seal(batch)

        await self._call(move)

    async def cancel_batch(self, batch: str) -> bool:
        """See `Sender.cancel_batch`."""
        with trio.CancelScope(shield=True):
            is_cancelled = await self._call(lambda: self.batches.cancel(batch))
        return is_cancelled  # noqa: RET504 - for mypy a scope may swallow what returns inside it

    async def put_periodic(self, entry: Periodic) -> None:
        """See `Sender.put_periodic`."""
        await self._call(lambda: self.ticks.put(entry))

    async def delete_periodic(self, name: str) -> bool:
        """See `Sender.delete_periodic`."""
        return await self._call(lambda: self.ticks.delete(name))
