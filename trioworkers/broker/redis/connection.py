"""Opens sockets to Redis through coredis, and keeps cancellation out of what is asked over them.

Cancelling a call inside coredis's client can lose a slot of its pool for good, or close a socket under other tasks' feet. So every call
is shielded wherever it waits (`Epoch`), and bounded by the reply timeout; who waits for it notices a cancellation just before and just after it. The one
call that takes long, the blocking fetch, is ended from outside when it is cancelled (`Connection.block`).

A client lives for an *epoch* (`epoch.py`): after any trouble it is given up as a whole, and the next call opens a new one.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import coredis
import trio
from coredis.pool import ConnectionPool
from coredis.retry import NoRetryPolicy

from trioworkers.broker.redis.commands import Commands
from trioworkers.broker.redis.epoch import Epoch
from trioworkers.broker.redis.link import Link
from trioworkers.broker.redis.opening import Address, Socket
from trioworkers.broker.redis.scripts import Script
from trioworkers.broker.redis.translation import translated
from trioworkers.errors import BrokerError, Superseded, Unavailable
from trioworkers.redis_url import RedisUrl, at_namespace, parse_redis_url
from trioworkers.tls_context import tls_context

if TYPE_CHECKING:
    from trioworkers.broker.redis.listening import Listener, News
    from trioworkers.broker.redis.tracking import Changed, Reaction


REPLY_TIMEOUT_S = 3.0
"""Of silence: of a reply on its way, or a request, each byte counts as a sign of life."""
MAX_CONNECTIONS = 4
"""One is used; more only while the client loses one."""
MANY = 500
"""So many commands are written together: meanwhile what others ask over this connection waits."""
T = TypeVar("T")


class Connection:
    """A socket to Redis, replaced after any trouble; non-blocking calls of any number of tasks share it."""

    def __init__(self, url: RedisUrl, reply_timeout_s: float, nursery: trio.Nursery, link: Link) -> None:
        self._url = url
        self._reply_timeout_s = reply_timeout_s
        self._nursery = nursery
        self._epoch: Epoch | None = None
        self._listener: Listener | None = None
        self.link = link

    @property
    def has_user(self) -> bool:
        """Whether a Redis user of our own is named, whose rules may forbid what lies outside our namespace."""
        return bool(self._url.username)

    async def run(self, script: Script, keys: list[str], args: list[Any], operation: str = "") -> Any:
        """Run a Lua script. Raises Unavailable, Refused or Superseded. Not cancelled once sent: bounded by the reply timeout.

        `operation`: what the log calls it; the script's name if not given.
        """
        name = operation or script.name
        return await self._ask(name, lambda epoch: epoch.evaluate(script, len(keys), *keys, *args))

    async def run_around(
        self,
        script: Script,
        keys: Sequence[str],
        args: tuple[Sequence[Any], Sequence[Any]],
        commands: Sequence[tuple[bytes, Sequence[Any]]],
    ) -> Sequence[Any] | None:
        """Run a script, commands and the script again, with the first and the second of `args`, as one step that is carried out as a whole or not at all.

        Returns the replies of all; where an error is among them it is raised. None: nothing was carried out, since Redis takes no such steps now; each by
        itself it may take. Raises and cancelled as `run`.
        """
        before, after = ((len(keys), *keys, *each) for each in args)
        return await self._ask(script.name, lambda epoch: epoch.evaluate_around(script, before, after, commands))

    async def run_unanswered(
        self,
        script: Script,
        keys: Sequence[str],
        args: tuple[Sequence[Any], Sequence[Any]],
        commands: Sequence[tuple[bytes, Sequence[Any]]],
        then: tuple[bytes, Sequence[Any]],
    ) -> Any:
        """As `run_around`, but Redis is told not to answer any of it. Returns what it answers to `then`, which is asked after all of it.

        None: nothing was carried out, if Redis doesn't take such steps; or that was the answer. Nobody else may use this connection meanwhile. Raises and cancelled as `run`.
        """
        before, after = ((len(keys), *keys, *each) for each in args)
        link = self.link
        if not link.can_be_silent:
            return None

        async def ask(epoch: Epoch) -> Any:
            if await epoch.can_be_silent():
                return await epoch.evaluate_unanswered(script, before, after, commands, then)
            link.can_be_silent = not epoch.answers_always
            return None

        return await self._ask(script.name, ask)

    async def execute_all(self, operation: str, *commands: tuple[bytes, Sequence[Any]]) -> Sequence[Any]:
        """Run commands one after the other, in one round trip; their replies. The first that is an error is raised. Raises and cancelled as `call`."""
        return await self._ask(operation, lambda epoch: epoch.execute_all(commands))

    async def execute_many(
        self, operation: str, commands: Sequence[tuple[bytes, Sequence[Any]]]
    ) -> Sequence[Any | BrokerError]:
        """Run many commands with small replies, written together. Each is its reply, or the error that Redis answered. Raises and cancelled as `call`."""
        replies: list[Any] = []
        for first in range(0, len(commands), MANY):
            page = commands[first : first + MANY]
            found = await self._ask(operation, lambda epoch, page=page: epoch.execute_many(page))  # type: ignore[misc]
            replies += [translated(reply) if isinstance(reply, Exception) else reply for reply in found]
        return replies

    def commands(self, operation: str) -> Commands:
        """Single commands, with types of our own. `operation`: what the log calls them; "" for what may be refused, and is then not logged."""
        return Commands(self, operation)

    async def call(self, operation: str, command: Callable[[coredis.Redis[bytes]], Awaitable[T]]) -> T:
        """Run one command of coredis's client. Raises Unavailable, Refused or Superseded. Not cancelled once sent, as `run`.

        For `Commands`: outside this room nobody knows that client.
        """
        return await self._ask(operation, lambda epoch: epoch.run(command))

    async def execute(self, operation: str, *words: Any) -> Any:
        """Run any command, word by word; its reply as it comes. Raises and cancelled as `call`."""
        return await self._ask(operation, lambda epoch: epoch.execute(*words))

    async def block(
        self, operation: str, words: Sequence[Any], timeout_s: float, end: Callable[[int], Awaitable[object]]
    ) -> Any:
        """Run a command that blocks this connection for up to `timeout_s` seconds. Raises Unavailable, Refused or Superseded.

        Cancellation: `end` is called with the connection's number as Redis counts, until the reply is there. If that brings something the cancellation
        comes too late, and it is returned.
        """
        return await self._ask(operation, lambda epoch: epoch.block(words, timeout_s, end), shield=False)

    async def until_changed(self, operation: str, keys: Sequence[bytes], ends_at: float, ask: Reaction) -> Changed:
        """Wait until there is any of these keys, or until a moment on Trio's clock; which there may be. Raises Unavailable, Refused or Superseded.

        If Redis tells of one key alone, what `ask` wants is asked at once: a round of the event loop and of the caller's earlier. For connections that
        do nothing else: Redis goes on telling of keys that were looked at over it. Cancellation: nothing is left behind; once something was asked it
        comes too late, and the replies are returned.
        """
        return await self._ask(operation, lambda epoch: epoch.until_changed(keys, ends_at, ask), shield=False)

    async def _ask(self, operation: str, question: Callable[[Epoch], Awaitable[T]], *, shield: bool = True) -> T:
        await trio.lowlevel.checkpoint_if_cancelled()
        started_at = trio.current_time()
        epoch = self._current_epoch()
        try:
            if not epoch.entered.is_set():
                with trio.CancelScope(shield=shield):
                    await epoch.entered.wait()
            reply = await question(epoch)
        except Exception as error:
            known = translated(error)
            if known is None and epoch.is_over:
                # coredis stumbles over what it has closed, and over a reply that is none, as when its beginning was lost.
                known = Unavailable(f"the connection was given up, and what was asked over it failed: {error!r}")
            if known is None:
                raise
            if isinstance(known, Unavailable):
                # The socket may be dead without knowing it, or lead to a server that was demoted: look anew next time.
                epoch.retired.set()
            if operation or isinstance(known, Unavailable):
                self.link.failed(operation, known, started_at)
            if known is error:
                raise
            raise known from error
        self.link.succeeded(operation)
        return reply

    def _current_epoch(self) -> Epoch:
        if self._epoch is None or self._epoch.is_over:
            self._retire()
            self._epoch = self._new_epoch()
        return self._epoch

    def listen(self, channel: str) -> AbstractContextManager[News]:
        """News of a channel, within the block: see `listening`."""
        if self._listener is None:
            from trioworkers.broker.redis.listening import Listener  # noqa: PLC0415 - few wait for results

            self._listener = Listener(self._new_epoch, self._nursery)
        return self._listener.listen(channel)

    def _new_epoch(self) -> Epoch:
        client = _client(self._url, self._reply_timeout_s)
        epoch = Epoch(client, self._url, self._reply_timeout_s, self.link.pace, self.link.door)
        self._nursery.start_soon(epoch.live)
        return epoch

    def _retire(self) -> None:
        if self._epoch is not None:
            self._epoch.retired.set()

    def renew(self) -> None:
        """Have the next call open a socket: to where the address leads then."""
        self._retire()

    def close(self) -> None:
        """Let the sockets go. There are no calls any more."""
        self._retire()
        if self._listener is not None:
            self._listener.close()


@asynccontextmanager
async def connect(
    url: str, link: Link, *, namespace: str = "", reply_timeout_s: float = REPLY_TIMEOUT_S
) -> AsyncIterator[Connection]:
    """A client of its own, closed at the end of the block. Connects when first used. Raises ConfigurationError for a bad URL.

    `namespace`: which of a cluster's nodes is meant.

    Cancellation: the block's body is cancelled as usual; calls under way end first.
    """
    where = at_namespace(parse_redis_url(url), namespace)
    if where.tls is not None:
        tls_context(where.tls)  # a file that can't be used shows now, not with each attempt
    raised: BaseException | None = None
    async with trio.open_nursery() as nursery:
        connection = Connection(where, reply_timeout_s, nursery, link)
        try:
            yield connection
        except BaseException as error:  # noqa: BLE001 - carried past the nursery, so that it comes out ungrouped
            raised = error
        connection.close()
    if raised is not None:
        raise raised


def backoff(longest_s: float = 1.0) -> Iterator[float]:
    """Seconds to wait before each next try: from 50 ms, doubling, with jitter, so that a fleet doesn't come back at once."""
    delay = 0.05
    while True:
        yield delay * random.uniform(0.5, 1.0)
        delay = min(delay * 2, longest_s)


async def retrying(
    call: Callable[[], Awaitable[T]], longest_s: float = 1.0, final: tuple[type[BrokerError], ...] = (Superseded,)
) -> T:
    """Call until Redis takes it. For what does no harm twice. Cancellation: between two tries. Errors in `final` are raised."""
    delays: Iterator[float] | None = None
    while True:
        try:
            return await call()
        except final:
            raise
        except BrokerError:
            delays = backoff(longest_s) if delays is None else delays
            await trio.sleep(next(delays))


def _client(url: RedisUrl, reply_timeout_s: float) -> coredis.Redis[bytes]:
    pool = ConnectionPool(
        connection_class=Socket,
        location=Address(url),
        max_connections=MAX_CONNECTIONS,
        timeout=reply_timeout_s + (url.connect_timeout_s or 0.0),
        stream_timeout=reply_timeout_s,
        username=url.username,
        password=url.password,
        client_name=url.client_name,
        db=url.db,
        decode_responses=False,
    )
    return coredis.Redis(connection_pool=pool, retry_policy=NoRetryPolicy(), decode_responses=False)
