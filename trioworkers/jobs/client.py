"""The sending side: enqueue now, one or ten thousand in one call, or schedule for later."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self

import trio

from trioworkers.broker.contract import Sends
from trioworkers.broker.redis.connection import connect
from trioworkers.broker.redis.link import Link
from trioworkers.broker.redis.server import open_server
from trioworkers.broker.sender import Sender
from trioworkers.errors import JobFailed, JobGone
from trioworkers.outcome import Send, moment
from trioworkers.redis_url import shown_url
from trioworkers.sending import Sent
from trioworkers.settings import DEFAULT_URL, settings
from trioworkers.size_guard import SizeGuard
from trioworkers.wire.dialects import dialect_named
from trioworkers.wire.ended import value_of
from trioworkers.wire.job import Job

FIRST_PAUSE_S, LAST_PAUSE_S = 0.02, 0.5
"""Between two looks for a result: the longer it takes, the rarer."""


class Client:
    """Sends jobs. `async with Client(url) as client: await client.enqueue(Job("mail", "WelcomeJob", [7]))`.

    `url`: as for `App`; not given: REDIS_URL, or redis://localhost:6379/0. `dialect`: as for `App`. Many tasks may use one client at once.
    A payload over `max_payload_bytes` (1 MiB) is refused, one over `large_payload_bytes` (100 KiB) warned of, once per class in a while.
    Raises ConfigurationError for a bad URL.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        namespace: str = "",
        dialect: str | None = None,
        max_payload_bytes: int | None = None,
        large_payload_bytes: int | None = None,
    ) -> None:
        sizes = {"max_payload_bytes": max_payload_bytes, "large_payload_bytes": large_payload_bytes}
        given = {"redis_url": url, "namespace": namespace, "dialect": dialect, **sizes}
        self._settings = settings(given, os.environ)
        self._stack = AsyncExitStack()
        self._sender: Sends | None = None

    @classmethod
    def around(cls, sender: Sends) -> Client:
        """A client on a connection that is open already and that somebody else closes."""
        client = cls(DEFAULT_URL)
        client._sender = sender
        return client

    async def __aenter__(self) -> Self:
        if not trio.lowlevel.in_trio_run():  # else what comes of it is somebody else's AttributeError
            raise RuntimeError("trioworkers needs Trio: run the program with trio.run(main), not asyncio.run(main())")
        async with AsyncExitStack() as stack:  # what is open is closed if the next fails
            url = await stack.enter_async_context(open_server(self._settings.redis_url))
            connection = await stack.enter_async_context(connect(url, Link(shown_url(url))))
            self._stack = stack.pop_all()
        namespace = self._settings.namespace
        dialect = dialect_named(self._settings.dialect, namespace)
        guard = SizeGuard(self._settings)
        self._sender = Sender(connection, dialect.keys(namespace), guard=guard, dialect=dialect)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sender = None
        await self._stack.__aexit__(kind, error, trace)

    async def enqueue(self, *jobs: Job) -> list[Sent]:
        """Put jobs into their queues, in this order; returns for each its jid, a string that may say more.

        Raises BadJob before anything is sent; Unavailable or Refused if Redis fails, when the jobs may have been sent or not (of
        more than a thousand, or of more than 8 MB, the first ones). Cancelled: likewise.
        """
        return await self._send(jobs)

    async def schedule(self, when: datetime | timedelta | float, *jobs: Job) -> list[Sent]:
        """Have jobs enqueued at a later time: a datetime, a timedelta or seconds from now. Otherwise like `enqueue`."""
        delay_s, at_s = moment(when)
        return await self._send(jobs, delay_s, at_s)

    async def result(self, jid: str, *, timeout: float | None = None) -> Any:  # noqa: ASYNC109 - what waits is told of by jid, not by scope
        """What a job returned that keeps its result, as soon as it has ended; waits for that up to `timeout` seconds (None: for ever).

        Raises JobFailed if it is dead; JobGone if it ended otherwise without a result (discarded, expired, deleted, purged);
        TimeoutError if it has not ended by then: also for a job that keeps no result, or whose result is not kept any more. Unavailable
        or Refused if Redis fails. Cancelled: nothing has happened.
        """
        sender = self._opened()
        ended, pause_s = await sender.ended(jid), FIRST_PAUSE_S
        with trio.move_on_after(math.inf if timeout is None else timeout):
            while ended is None:
                await trio.sleep(pause_s)
                pause_s = min(pause_s * 1.5, LAST_PAUSE_S)
                ended = await sender.ended(jid)
        if ended is None:
            raise TimeoutError(f"job {jid} has not ended within {timeout:g} s, or keeps no result")
        if ended.how == "dead":
            raise JobFailed(jid, ended.error_class, ended.error_message)
        if ended.how != "succeeded":
            raise JobGone(jid, ended.how)
        return value_of(ended)

    def _opened(self) -> Sends:
        if self._sender is None:
            raise RuntimeError("a Client is used inside its block: async with Client(url) as client")
        return self._sender

    async def _send(self, jobs: Sequence[Job], delay_s: float | None = None, at_s: float | None = None) -> list[Sent]:
        await self._opened().send(Send(job, delay_s, at_s) for job in jobs)
        if not jobs:
            await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint_if_cancelled()
        return [Sent(job.jid) for job in jobs]
