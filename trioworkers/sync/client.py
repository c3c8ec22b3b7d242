"""The client that blocks: a thin shell around `jobs/exchanges.py`."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from trioworkers.chosen_redis import ChosenRedis
from trioworkers.errors import BrokerError, Unavailable
from trioworkers.jobs.batch import ABANDONED_AFTER_S, Batch, opening, streamed
from trioworkers.jobs.client_checks import (
    MAX_CONNECTIONS,
    check_may_block,
    check_usable,
    checked_connections,
    client_here,
)
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
from trioworkers.sending import Sent
from trioworkers.sync.batch import OpenBatch
from trioworkers.wire.ended import decode_ended
from trioworkers.wire.job import Job
from trioworkers.wire.keys import Keys

if TYPE_CHECKING:
    import redis

    from trioworkers.broker.blocking_news import News
    from trioworkers.missed_ticks import Missed, Overlap

__all__ = ["Client"]

T = TypeVar("T")


class Client:
    """Sends jobs, and blocks. `client = Client(); client.enqueue(Job("mail", "WelcomeJob", [7]))`.

    All threads of a program may share one client. Processes that are forked after it was made may use it, too: each opens its own connections with its
    first call. As a context manager it is closed at the end of the block. You may also use it without a block.

    `url`: as for `App`, but not `embedded:`. Default: REDIS_URL, else the Redis of a `trioworkers dev` that runs here, else redis://localhost:6379/0.
    `namespace`, `dialect`, `max_payload_bytes`, `large_payload_bytes`: as for `App`. `retry_for`: for so many seconds a call is repeated if Redis
    can't be reached; at most 60, and 0 for no repetition. A repeated call never doubles a job. `max_connections`: the most connections at once in a process.
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
        """A client for the Redis, namespace and dialects of an App; `app.sync_client()` calls this. Raises ConfigurationError."""
        layout = app.layout
        if layout is not None:
            from trioworkers.sync.sharded import ShardedClient  # noqa: PLC0415 - few apps have several Redises

            return ShardedClient(app, layout, retry_for, max_connections)
        client = cls.__new__(cls)
        client._begin(options_of(app), retry_for, max_connections)  # noqa: SLF001 - one of our own
        return client

    def _begin(self, options: ClientOptions, retry_for: float, max_connections: int) -> None:
        check_usable(options, "trioworkers.sync")
        retry_for_s = checked_retry_for(retry_for)
        self._meant = MeantRedis(options, lambda told: Exchanges(told.sending(), retry_for_s, told.telemetry))
        self._max_connections = checked_connections(max_connections)

    def __repr__(self) -> str:
        return f"<trioworkers.sync.Client: {self._meant.options.chosen}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        raise RuntimeError(
            f"trioworkers.sync.Client blocks: use {client_here()}, or `with` in a program that may block"
        )

    async def __aexit__(self, *_: object) -> None:
        """Never called: see `__aenter__`."""

    def close(self) -> None:
        """Close the connections of this process. If another thread waits for a reply, its connection is closed after the reply. A later call opens new ones."""
        self._meant.there.__dict__.pop(
            "redis", None
        )  # a connection ends with the last who uses it: another thread may be in a call

    def enqueue(self, *jobs: Job | Batch) -> list[Sent]:
        """Put jobs into their queues, in this order. Returns for each job its jid, as a `Sent`.

        Raises BadJob before anything is sent. Raises Unavailable or Refused if Redis has failed for `retry_for` seconds. Then the
        jobs may have been sent or not; if there are more than a thousand, or more than 8 MB, perhaps only the first ones. RuntimeError inside an event loop.
        """
        return self._do(lambda its: its.send(jobs))

    def schedule(self, when: datetime | timedelta | float, *jobs: Job | Batch) -> list[Sent]:
        """Enqueue jobs at a later time: a datetime, a timedelta, or seconds from now. Otherwise like `enqueue`."""
        return self._do(lambda its: its.send(jobs, when))

    def periodic(
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
        self._do(lambda its: its.periodic(name, expression, job, **said))

    def delete_periodic(self, name: str) -> bool:
        """As `trioworkers.Client.delete_periodic`."""
        return self._do(lambda its: its.delete_periodic(name))

    def batch(
        self,
        description: str = "",
        *,
        on_success: Job | None = None,
        on_finished: Job | None = None,
        on_death: Job | None = None,
        abandoned_after: float | None = ABANDONED_AFTER_S,
    ) -> OpenBatch:
        """A batch of any number of jobs: `with client.batch("import", on_success=job) as batch: batch.add(*jobs)`.

        Members run as soon as they are added. The callbacks also wait for the end of the block. An exception in the block cancels the batch: it takes no more members,
        those that wait don't run, and `on_success` is never sent. The batch is also cancelled if no member was added for `abandoned_after` seconds, because the program
        that added them is gone then; None: never. The callbacks are those of `Batch`. Raises BadJob; in the block as `enqueue`.
        """
        what = streamed(opening(description, on_success, on_finished, on_death), abandoned_after)
        return OpenBatch(self._do, what)

    def result(self, jid: str, *, timeout: float | None = None) -> Any:
        """The result of a job that keeps it. Waits until the job has ended, up to `timeout` seconds (None: for ever).

        Raises JobFailed if the job is dead; JobGone if it ended without a result in another way (discarded, expired, deleted, purged);
        TimeoutError if it has not ended, or keeps no result, or its result is not kept any more. Unavailable
        or Refused if Redis fails. RuntimeError inside an event loop.
        """
        check_may_block()
        from trioworkers.broker.blocking_news import News  # noqa: PLC0415 - it needs redis-py, which comes with the first call

        listening: set[tuple[int, int]] = self.__dict__.setdefault("_listening", set())
        news = News(self._there().exchanges.keys.result(jid), listening, self._max_connections // 2)
        try:
            return self._do(lambda _: result(jid, timeout), news)
        finally:
            news.close()

    # ── for our own house ──────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def chosen(self) -> ChosenRedis:
        """Which Redis it means. Not for users."""
        return self._meant.options.chosen

    @property
    def keys(self) -> Keys:
        """The key names there. Not for users."""
        return self._there().exchanges.keys

    def check(self, job: Job) -> None:
        """Raise BadJob if a job could not be sent. Not for users."""
        self._there().exchanges.check(job)

    def command(self, *words: str | bytes | int) -> Any:
        """One command to Redis that does no harm twice, repeated like `enqueue`. Not for users. Raises Unavailable or Refused."""
        return self._do(lambda its: its.command(*words))

    def _there(self) -> There:
        return self._meant.for_call()

    def _do(self, make: Callable[[Exchanges], Exchange[T]], news: News | None = None) -> T:
        check_may_block()
        there = self._there()
        exchange = make(there.exchanges)
        try:
            step = next(exchange)
            with there.explained():
                while True:
                    try:
                        reply = self._step(step, there, news)
                    except BrokerError as error:
                        there.has_answered = there.has_answered and not isinstance(error, Unavailable)
                        step = exchange.throw(error)
                    else:
                        there.has_answered = True
                        step = exchange.send(reply)
        except StopIteration as end:
            returned: T = end.value
            return returned

    def _step(self, step: Step, there: There, news: News | None) -> Any:
        if isinstance(step, Pause):
            return time.sleep(step.seconds)
        from trioworkers.broker import redis_py  # noqa: PLC0415 - with the first call, not before
        from trioworkers.broker.enqueue import script_of  # noqa: PLC0415 - as above

        if isinstance(step, At | AtEach):
            raise TypeError("this client has one Redis")
        client = self._client(there, redis_py.open_client)
        if isinstance(step, Listen):
            return news is not None and news.wait(client, step.seconds)
        try:
            if isinstance(step, AskEnded):
                text = client.get(there.exchanges.keys.result(step.jid))
                return None if text is None else decode_ended(text)
            if isinstance(step, Command):
                return client.execute_command(*step.words)
            script = step.script if isinstance(step, Run) else script_of(step)
            words = (len(step.keys), *step.keys, *step.args)
            try:
                return client.execute_command("EVALSHA", script.sha, *words)
            except redis_py.NoScriptError:  # Redis is new, or somebody flushed its scripts
                return client.execute_command("EVAL", script.text, *words)
        except BaseException as error:
            # The next call opens connections to where Redis is now, and finds no reply of this one; other threads may still wait for theirs.
            if there.redis is client and (redis_py.is_elsewhere(error) or redis_py.was_interrupted(error)):
                there.__dict__.pop("redis", None)
            if isinstance(error, redis_py.FOREIGN):
                raise redis_py.translate(error, there.url) from error
            raise

    def _client(self, there: There, open_client: Any) -> redis.Redis:
        # Without a lock, which a fork could find taken: of two that are made at the same moment one is thrown away, before it has connected.
        found: redis.Redis | None = there.__dict__.get("redis")
        if found is None:
            found = there.__dict__.setdefault("redis", open_client(there.url, self._max_connections))
        return found
