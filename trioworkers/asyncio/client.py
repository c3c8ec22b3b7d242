"""The client for asyncio: a thin shell around `jobs/exchanges.py`, as the blocking one is, over redis-py's asyncio half, which is imported with the first call."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from trioworkers.errors import BrokerError, Unavailable
from trioworkers.jobs.batch import ABANDONED_AFTER_S, Batch, opening, streamed
from trioworkers.jobs.client_checks import MAX_CONNECTIONS, check_usable, checked_connections
from trioworkers.jobs.client_options import ClientOptions, Declared, given_options, options_of
from trioworkers.jobs.exchanges import (
    RETRY_FOR_S,
    AskEnded,
    At,
    AtEach,
    Command,
    Exchange,
    Exchanges,
    Listen,
    Pause,
    Run,
    Step,
    checked_retry_for,
    result,
)
from trioworkers.jobs.meant_redis import MeantRedis, There
from trioworkers.jobs.open_batch import OpenBatch
from trioworkers.send import Send
from trioworkers.sending import Met, Sent, met_by
from trioworkers.wire.ended import decode_ended
from trioworkers.wire.job import Job
from trioworkers.wire.membership import Opening

if TYPE_CHECKING:
    import redis.asyncio

    from trioworkers.broker.asyncio_news import Listener, News
    from trioworkers.missed_ticks import Missed, Overlap

__all__ = ["Client"]

T = TypeVar("T")


class Client:
    """Sends jobs from an asyncio program. `async with Client() as client: await client.enqueue(Job("mail", "WelcomeJob", [7]))`.

    All tasks of one event loop may share one client. It connects with its first call. It is closed at the end of the block, or by `await
    client.aclose()`.

    `url`: as for `App`, but not `embedded:`. Default: REDIS_URL, else the Redis of a `trioworkers dev` that runs here, else redis://localhost:6379/0.
    `namespace`, `dialect`, `max_payload_bytes`, `large_payload_bytes`: as for `App`. `retry_for`: for so many seconds a call is repeated if Redis
    can't be reached; at most 60, and 0 for no repetition. A repeated call never doubles a job. `max_connections`: the most connections at once.
    Raises ConfigurationError.
    """

    _shard: str | None = None
    """Which of an App's Redises it is for, if that has several."""

    def __init__(
        self,
        url: str | None = None,
        *,
        namespace: str | None = None,
        dialect: str | None = None,
        max_payload_bytes: int | None = None,
        large_payload_bytes: int | None = None,
        retry_for: float = RETRY_FOR_S,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        options = given_options("Client()", url, namespace, dialect, max_payload_bytes, large_payload_bytes)
        self._begin(options, retry_for, max_connections)

    @classmethod
    def for_app(
        cls, app: Declared, *, retry_for: float = RETRY_FOR_S, max_connections: int = MAX_CONNECTIONS
    ) -> Client:
        """A client for the Redis, namespace and dialects of an App; `app.asyncio_client()` calls this. Raises ConfigurationError."""
        layout = app.layout
        if layout is not None:
            from trioworkers.asyncio.sharded import ShardedClient  # noqa: PLC0415 - few apps have several Redises

            return ShardedClient(app, layout, retry_for, max_connections)
        client = cls.__new__(cls)
        client._begin(options_of(app), retry_for, max_connections)  # noqa: SLF001 - one of our own
        return client

    def _begin(self, options: ClientOptions, retry_for: float, max_connections: int) -> None:
        check_usable(options, "trioworkers.asyncio")
        retry_for_s = checked_retry_for(retry_for)
        self._meant = MeantRedis(options, lambda told: Exchanges(told.sending(), retry_for_s, told.telemetry))
        self._max_connections = checked_connections(max_connections)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listener: Listener | None = None

    def __repr__(self) -> str:
        return f"<trioworkers.asyncio.Client: {self._meant.options.chosen}>"

    async def __aenter__(self) -> Self:
        _check_loop()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __enter__(self) -> Self:
        raise RuntimeError(
            "trioworkers.asyncio.Client is used with `async with`; in a program that blocks use trioworkers.sync.Client"
        )

    def __exit__(self, *_: object) -> None:
        """Never called: see `__enter__`."""

    async def aclose(self) -> None:
        """Close its connections. If another task waits for a reply, its connection is closed after the reply. A later call opens new ones."""
        await self._let_go(self._meant.there)

    async def _let_go(self, there: There) -> None:
        client, there.redis = there.redis, None
        listener, self._listener = self._listener, None
        if listener is not None and self._loop is asyncio.get_running_loop():
            await listener.close()
        if client is not None:
            await client.connection_pool.disconnect(inuse_connections=False)

    async def enqueue(self, *jobs: Job | Batch) -> list[Sent]:
        """Put jobs into their queues, in this order. Returns for each job its jid, as a `Sent`.

        Raises BadJob before anything is sent. Raises Unavailable or Refused if Redis has failed for `retry_for` seconds. Then the
        jobs may have been sent or not; if there are more than a thousand, or more than 8 MB, perhaps only the first ones. Cancelled: likewise.
        """
        return await self._do(lambda its: its.send(jobs))

    async def schedule(self, when: datetime | timedelta | float, *jobs: Job | Batch) -> list[Sent]:
        """Enqueue jobs at a later time: a datetime, a timedelta, or seconds from now. Otherwise like `enqueue`."""
        return await self._do(lambda its: its.send(jobs, when))

    async def periodic(
        self,
        name: str,
        expression: str,
        job: Job,
        *,
        tz: str = "UTC",
        missed: Missed = "one",
        within: float = 3600.0,
        overlap: Overlap = "allow",
        jitter: float = 0.0,
    ) -> None:
        """As `trioworkers.Client.periodic`."""
        said = {"zone": tz, "missed": missed, "within_s": within, "overlap": overlap, "jitter_s": jitter}
        await self._do(lambda its: its.periodic(name, expression, job, **said))

    async def delete_periodic(self, name: str) -> bool:
        """As `trioworkers.Client.delete_periodic`."""
        return await self._do(lambda its: its.delete_periodic(name))

    def batch(
        self,
        description: str = "",
        *,
        on_success: Job | None = None,
        on_finished: Job | None = None,
        on_death: Job | None = None,
        abandoned_after: float | None = ABANDONED_AFTER_S,
    ) -> OpenBatch:
        """A batch of any number of jobs: `async with client.batch("import", on_success=job) as batch: await batch.add(*jobs)`.

        Members run as soon as they are added. The callbacks also wait for the end of the block. An exception in the block cancels the batch: it takes no more members,
        those that wait don't run, and `on_success` is never sent. The batch is also cancelled if no member was added for `abandoned_after` seconds, because the program
        that added them is gone then; None: never. The callbacks are those of `Batch`. Raises BadJob; in the block as `enqueue`.
        """
        what = streamed(opening(description, on_success, on_finished, on_death), abandoned_after)
        return OpenBatch(_Sends(self), what)

    async def result(self, jid: str, *, timeout: float | None = None) -> Any:  # noqa: ASYNC109 - as trioworkers.Client has it
        """The result of a job that keeps it. Waits until the job has ended, up to `timeout` seconds (None: for ever).

        Raises JobFailed if the job is dead; JobGone if it ended without a result in another way (discarded, expired, deleted, purged);
        TimeoutError if it has not ended, or keeps no result, or its result is not kept any more. Unavailable
        or Refused if Redis fails. Cancelled: nothing has happened.
        """
        from trioworkers.broker.asyncio_news import News  # noqa: PLC0415 - it needs redis-py, which comes with the first call

        _check_loop()
        news = News(self._there().exchanges.keys.result(jid))
        try:
            return await self._do(lambda _: result(jid, timeout), news)
        finally:
            await news.close()

    def _there(self) -> There:
        return self._meant.for_call()

    async def _do(self, make: Callable[[Exchanges], Exchange[T]], news: News | None = None) -> T:
        _check_loop()
        there = self._there()
        exchange = make(there.exchanges)
        try:
            step = next(exchange)
            with there.explained():
                while True:
                    try:
                        reply = await self._step(step, there, news)
                    except BrokerError as error:
                        there.has_answered = there.has_answered and not isinstance(error, Unavailable)
                        step = exchange.throw(error)
                    else:
                        there.has_answered = True
                        step = exchange.send(reply)
        except StopIteration as end:
            returned: T = end.value
            return returned

    async def _step(self, step: Step, there: There, news: News | None) -> Any:
        if isinstance(step, Pause):
            return await asyncio.sleep(step.seconds)
        from trioworkers.broker import redis_py  # noqa: PLC0415 - with the first call, not before
        from trioworkers.broker.enqueue import script_of  # noqa: PLC0415 - as above

        if isinstance(step, At | AtEach):
            raise TypeError("this client has one Redis")
        client = self._client(there)
        if isinstance(step, Listen):
            return await self._listen(client, news, step.seconds)
        try:
            if isinstance(step, AskEnded):
                text = await client.get(there.exchanges.keys.result(step.jid))
                return None if text is None else decode_ended(text)
            if isinstance(step, Command):
                return await client.execute_command(*step.words)
            script = step.script if isinstance(step, Run) else script_of(step)
            words = (len(step.keys), *step.keys, *step.args)
            try:
                return await client.execute_command("EVALSHA", script.sha, *words)
            except redis_py.NoScriptError:  # Redis is new, or somebody flushed its scripts
                return await client.execute_command("EVAL", script.text, *words)
        except redis_py.FOREIGN as error:
            if redis_py.is_elsewhere(error) and there.redis is client:
                await self._let_go(there)  # the next one is opened to where it is now
            raise redis_py.translate(error, there.url) from error
        finally:
            if there.redis is not client:  # it was let go meanwhile; whoever was the last to use it closes it
                with suppress(*redis_py.FOREIGN):
                    await client.connection_pool.disconnect(inuse_connections=False)

    async def _listen(self, client: redis.asyncio.Redis, news: News | None, seconds: float) -> bool:
        if news is None or self._max_connections == 1:  # which others need
            await asyncio.sleep(seconds)
            return False
        if self._listener is None or self._listener.is_over:
            from trioworkers.broker.asyncio_news import Listener  # noqa: PLC0415 - as above

            old, self._listener = self._listener, Listener(client)
            if old is not None:
                await old.close()
        return await news.wait(self._listener, seconds)

    def _client(self, there: There) -> redis.asyncio.Redis:
        loop = asyncio.get_running_loop()
        if there.redis is not None and self._loop is not loop:
            if self._loop is not None and not self._loop.is_closed():
                raise RuntimeError(
                    "a trioworkers.asyncio.Client belongs to one event loop: make another client for this one"
                )
            there.redis = None  # its sockets ended with their loop
        if there.redis is None:
            from trioworkers.asyncio.opening import open_client  # noqa: PLC0415 - with the first call, not before

            there.redis = open_client(there.url, self._max_connections)
            self._loop, self._listener = loop, None
        found: redis.asyncio.Redis = there.redis
        return found


class _Sends:
    """What an open batch needs of a client."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def send(self, sends: Iterable[Send]) -> Met:
        """Send members; whom they met."""
        return met_by(await self._client.enqueue(*(send.job for send in sends)))

    async def open_batch(self, batch: str, opening: Opening) -> None:
        """See `Exchanges`."""
        await self._client._do(lambda its: its.open_batch(batch, opening))  # noqa: SLF001 - one of our own

    async def seal_batch(self, batch: str) -> None:
        """See `Exchanges`."""
        await self._client._do(lambda its: its.seal_batch(batch))  # noqa: SLF001 - as above

    async def cancel_batch(self, batch: str) -> bool:
        """See `Exchanges`."""
        return await self._client._do(lambda its: its.cancel_batch(batch))  # noqa: SLF001 - as above


def _check_loop() -> None:
    """Raise RuntimeError where no asyncio runs."""
    if (trio := sys.modules.get("trio")) is not None and trio.lowlevel.in_trio_run():
        raise RuntimeError("trioworkers.asyncio.Client is for asyncio, and this is Trio: use trioworkers.Client")
    asyncio.get_running_loop()
