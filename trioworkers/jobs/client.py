"""The sending side: enqueue now, one or ten thousand in one call, or schedule for later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import trio

from trioworkers.broker.contract import Sends
from trioworkers.broker.redis.connection import connect
from trioworkers.broker.redis.link import Link
from trioworkers.broker.redis.server import open_server
from trioworkers.broker.sender import Sender
from trioworkers.jobs.batch import ABANDONED_AFTER_S, Batch, opening, streamed
from trioworkers.jobs.client_options import ClientOptions, Declared, given_options, options_by_shard, options_of
from trioworkers.jobs.exchanges import Listen, result
from trioworkers.jobs.open_batch import OpenBatch
from trioworkers.jobs.telemetry import Telemetry
from trioworkers.redis_url import shown_url
from trioworkers.send import Send, moment
from trioworkers.sending import Sent, batch_sent, sent
from trioworkers.wire.job import Job

if TYPE_CHECKING:
    from trioworkers.jobs.layout import Layout
    from trioworkers.missed_ticks import Missed, Overlap


class Client:
    """Sends jobs. `async with Client(url) as client: await client.enqueue(Job("mail", "WelcomeJob", [7]))`.

    - `url`: as for `App`. Default: REDIS_URL, else the Redis of a `trioworkers dev` that runs here, else redis://localhost:6379/0.
    - `namespace`, `dialect`: as for `App`.
    - `max_payload_bytes`: larger payloads are refused (1 MiB).
    - `large_payload_bytes`: the log warns of larger payloads, now and then for each class (100 KiB).

    Many tasks may use one client at once. Raises ConfigurationError for a bad URL. Without a URL it is also raised if this program's Apps use another Redis.
    In programs without Trio: `trioworkers.sync.Client`, `trioworkers.asyncio.Client`.
    """

    _telemetry: Telemetry | None = None
    _shards: Mapping[str, ClientOptions] = {}
    _layout: Layout | None = None

    def __init__(
        self,
        url: str | None = None,
        *,
        namespace: str | None = None,
        dialect: str | None = None,
        max_payload_bytes: int | None = None,
        large_payload_bytes: int | None = None,
    ) -> None:
        self._begin(given_options("Client()", url, namespace, dialect, max_payload_bytes, large_payload_bytes))

    @classmethod
    def for_app(cls, app: Declared) -> Client:
        """A client for the Redis, namespace and dialects of an App; `app.client()` calls this. Raises ConfigurationError."""
        client = cls.__new__(cls)
        layout = app.layout
        if layout is None:
            client._begin(options_of(app))  # noqa: SLF001 - one of our own
        else:
            shards = options_by_shard(app, layout)
            client._begin(next(iter(shards.values())))  # noqa: SLF001 - as above
            client._shards, client._layout = shards, layout  # noqa: SLF001 - as above
        return client

    @classmethod
    def around(cls, sender: Sends, telemetry: Telemetry | None = None) -> Client:
        """A client on a connection that is open already and that somebody else closes."""
        client = cls.__new__(cls)
        client._telemetry = telemetry  # noqa: SLF001 - one of our own
        client._begin(None, sender)  # noqa: SLF001 - one of our own
        return client

    def _begin(self, options: ClientOptions | None, sender: Sends | None = None) -> None:
        self._options = options
        if options is not None:
            self._telemetry = options.telemetry
        self._stack = AsyncExitStack()
        self._sender = sender

    async def __aenter__(self) -> Self:
        if not trio.lowlevel.in_trio_run():  # else what comes of it is somebody else's AttributeError
            raise RuntimeError(
                "trioworkers.Client needs Trio: run the program with trio.run(main), not asyncio.run(main()); or use trioworkers.asyncio.Client"
            )
        if self._options is None:
            raise RuntimeError("this client is open already, and its owner closes it")
        self._options = self._options.now()  # `dev` may have been started since
        async with AsyncExitStack() as stack:  # what is open is closed if the next fails
            if self._layout is None:
                self._sender = await _open(stack, self._options)
            else:
                from trioworkers.broker.sharded_sends import ShardedSends  # noqa: PLC0415 - few apps have several Redises

                senders = {name: await _open(stack, options) for name, options in self._shards.items()}
                self._sender = ShardedSends(senders, self._layout)
            self._stack = stack.pop_all()
        return self

    def __enter__(self) -> Self:
        raise RuntimeError(
            "trioworkers.Client is used with `async with`, in Trio; in a program that blocks use trioworkers.sync.Client"
        )

    def __exit__(self, *_: object) -> None:
        """Never called: see `__enter__`."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sender = None
        await self._stack.__aexit__(kind, error, trace)

    async def enqueue(self, *jobs: Job | Batch) -> list[Sent]:
        """Put jobs into their queues, in this order. Returns for each job its jid, as a `Sent`.

        Raises BadJob before anything is sent. Raises DuplicateJob for a unique job with `on_conflict="raise"`; then nothing was sent. Raises Unavailable or Refused if Redis fails. Then the
        jobs may have been sent or not; if there are more than a thousand, or more than 8 MB, perhaps only the first ones. The same holds if the call is cancelled.
        """
        return await self._send(jobs)

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
        return OpenBatch(
            self._opened(), streamed(opening(description, on_success, on_finished, on_death), abandoned_after)
        )

    async def schedule(self, when: datetime | timedelta | float, *jobs: Job | Batch) -> list[Sent]:
        """Enqueue jobs at a later time: a datetime, a timedelta, or seconds from now. Otherwise like `enqueue`."""
        delay_s, at_s = moment(when)
        return await self._send(jobs, delay_s, at_s)

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
        """Send `job` whenever `expression` is due, until `delete_periodic`. The entry exists only in Redis, not in the code of workers.

        A second call with the same name replaces the entry. Its next tick stays if the expression didn't change. The options are those of `App.periodic`. Any worker of
        the fleet sends the ticks. Raises ConfigurationError or BadJob for an impossible entry. Raises Unavailable or Refused if Redis fails. Then the entry may be there or not. The same holds if the call is cancelled.
        """
        from trioworkers.jobs.periodic import named_entry  # noqa: PLC0415 - few clients have periodic jobs

        sender = self._opened()
        there = sender.sends_of(job, name)
        said = {"zone": tz, "missed": missed, "within_s": within, "overlap": overlap, "jitter_s": jitter}
        entry = named_entry(there.sending, name, expression, job, there.clock.now_s(), **said)
        await sender.put_periodic(entry)

    async def delete_periodic(self, name: str) -> bool:
        """Remove an entry that exists only in Redis, with its history. Returns whether there was one. Raises ConfigurationError for an entry of code."""
        return await self._opened().delete_periodic(name)

    async def result(self, jid: str, *, timeout: float | None = None) -> Any:  # noqa: ASYNC109 - what waits is told of by jid, not by scope
        """The result of a job that keeps it. Waits until the job has ended, up to `timeout` seconds (None: for ever).

        Raises JobFailed if the job is dead; JobGone if it ended without a result in another way (discarded, expired, deleted, purged);
        TimeoutError if it has not ended, or keeps no result, or its result is not kept any more. Unavailable
        or Refused if Redis fails. Cancelled: nothing has happened.
        """
        sender, exchange = self._opened(), result(jid, timeout, trio.current_time)
        with sender.news_of_end(jid) as news:
            try:
                step = next(exchange)
                while True:
                    if isinstance(step, Listen):
                        step = exchange.send(await news.wait(step.seconds))
                    else:
                        step = exchange.send(await sender.ended(jid))
            except StopIteration as end:
                return end.value

    async def recorded(self, jid: str, name: str) -> tuple[bytes | None, int]:
        """What a step of a job returned, if that is recorded beside its payload, and how many results are: for `Context.step`."""
        return await self._opened().recorded(jid, name)

    async def member_result(self, batch: str, name: str) -> bytes | None:
        """What a member of a batch returned, in JSON: for `Context.result`."""
        return await self._opened().member_result(batch, name)

    def _opened(self) -> Sends:
        if self._sender is None:
            raise RuntimeError("a Client is used inside its block: async with Client(url) as client")
        return self._sender

    async def _send(self, jobs: Sequence[Any], delay_s: float | None = None, at_s: float | None = None) -> list[Sent]:
        if Batch in map(type, jobs):
            return [await self._send_one(job, delay_s, at_s) for job in jobs]
        if self._telemetry is not None:
            with self._telemetry.sending(jobs) as traced:
                return sent(traced, await self._opened().send(Send(job, delay_s, at_s) for job in traced))
        there = await self._opened().send(Send(job, delay_s, at_s) for job in jobs)
        if not jobs:
            await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint_if_cancelled()
        return sent(jobs, there)

    async def _send_one(self, job: Job | Batch, delay_s: float | None, at_s: float | None) -> Sent:
        if isinstance(job, Job):
            return (await self._send([job], delay_s, at_s))[0]
        return batch_sent(job.id, await self._send(job.members(), delay_s, at_s))


async def _open(stack: AsyncExitStack, options: ClientOptions) -> Sender:
    url = await stack.enter_async_context(open_server(options.chosen.url))
    connection = await stack.enter_async_context(connect(url, Link(shown_url(url)), namespace=options.chosen.namespace))
    return Sender.of(connection, options.sending())
