"""Record the jobs of blocking and asyncio clients instead of sending them to Redis: for tests of web programs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest import mock

import trio
import trio.testing

from trioworkers import asyncio, sync
from trioworkers.errors import BadPayload
from trioworkers.jobs.exchanges import AskEnded, Step
from trioworkers.jobs.meant_redis import There
from trioworkers.sending import Call, Sending
from trioworkers.testing.running import run
from trioworkers.testing.sent_jobs import SentJob, SentJobs
from trioworkers.wire.job import Job
from trioworkers.wire.packing import unpack

if TYPE_CHECKING:
    import httpx

    from trioworkers.app import App
    from trioworkers.testing.broker import Ran


class Recorded(SentJobs):
    """What was sent, in this order: `sent`, `jobs`, and `assert_enqueued`."""

    def __init__(self) -> None:
        super().__init__(time.time)

    @property
    def jobs(self) -> list[Job]:
        """The jobs."""
        return [each.job for each in self.sent]

    def run(self, app: App, *, http: httpx.AsyncClient | None = None) -> list[Ran]:
        """Run the recorded jobs, the jobs that these send, and all retries, in an app without Redis. Returns how each attempt ended. Blocks; for tests without an event loop."""

        async def main() -> list[Ran]:
            async with run(app, http=http) as test:
                await test.enqueue(*self.jobs)
                await test.drain(retries=True)
                return test.ran

        return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))

    def _reply(self, step: Step, sending: Sending, shard: str | None) -> Any:
        if isinstance(step, AskEnded):
            raise TimeoutError(f"job {step.jid} doesn't run: it is only recorded")
        if not isinstance(step, Call):
            return _nothing(step)
        for parcel in step.args[1:]:
            push, later, *_ = unpack(parcel)
            for queue, _, payloads, *_ in push:
                for payload in payloads:
                    self._add(payload, queue, None, sending, shard)
            for payload, delay_s, at_s, _ in later:
                self._add(payload, "", at_s or time.time() + delay_s, sending, shard)
        return [b""] * (len(step.args) - 1)

    def _add(self, item: Any, queue: str, due_s: float | None, sending: Sending, shard: str | None) -> None:
        payload = item[0] if isinstance(item, list) else item  # with what is to be known of its lock
        text = payload.encode() if isinstance(payload, str) else payload
        try:
            queue = queue or sending.dialect.destination(text)
            job = sending.spoken_on(queue)[0].decode(text, queue)
        except BadPayload as error:
            raise AssertionError(f"what was sent can't be read: {error}") from error
        self.sent.append(SentJob(job, due_s, shard))


def _nothing(step: Step) -> Any:
    """What an empty Redis says."""
    match getattr(step, "words", ()):
        case ("MGET", *keys):
            return [None] * len(keys)
        case ("TIME",):
            return [int(time.time()), 0]
    return None


@contextmanager
def recording() -> Iterator[Recorded]:
    """Within the block, what `trioworkers.sync.Client` and `trioworkers.asyncio.Client` send is kept here and doesn't go to Redis, in all threads.

    Jobs are checked and encoded as always. Who waits for a result gets TimeoutError at once. Django's TasksBackend sends by such a client, too: when the transaction commits.
    """
    recorded = Recorded()

    def step(client: sync.Client, todo: Step, there: There, __: object) -> Any:
        return recorded._reply(todo, there.exchanges._sending, client._shard)

    async def astep(client: asyncio.Client, todo: Step, there: There, __: object) -> Any:
        return recorded._reply(todo, there.exchanges._sending, client._shard)

    with mock.patch.object(sync.Client, "_step", step), mock.patch.object(asyncio.Client, "_step", astep):
        yield recorded
