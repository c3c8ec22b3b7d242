"""What happens over one coredis client, from when it is opened until it is given up.

It has one socket, held from its start: scripts and blocking commands are written to it directly, which costs a cold call a third less
than the client's way through pool, retries and telemetry.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from itertools import starmap
from typing import Any, NamedTuple, TypeVar

import coredis
import trio
from coredis import exceptions

from trioworkers.broker.redis.link import Door
from trioworkers.broker.redis.opening import Socket
from trioworkers.broker.redis.pace import Pace
from trioworkers.broker.redis.request import Request
from trioworkers.broker.redis.scripts import Script
from trioworkers.broker.redis.tracking import Changed, Reaction, Tracking
from trioworkers.broker.redis.translation import FOREIGN, first_leaf, translate, why_not_open
from trioworkers.errors import BrokerError, Unavailable
from trioworkers.redis_url import RedisUrl

logger = logging.getLogger("trioworkers")

MOST_SILENCES = 10
"""So many times the silence that counts as the end is the longest that one call may take."""
SILENCES_WHEN_SLOW = 3
"""Over a slow line what we sent may lie in the middle of the way: in a buffer, of which we see nothing, behind what our other connections sent. Each of
them asks for no more than a second's worth at once."""
END_PATIENCE_S = 1.0
ASK_AGAIN_S = 300.0
"""A Redis that refused `MULTI` is asked again: it was full or busy, perhaps, or its rules for us are changed."""
ANSWER_AGAIN = (b"CLIENT REPLY", (b"ON",))
T = TypeVar("T")


class Words(NamedTuple):
    """A command as coredis's batches want it."""

    name: bytes
    serialized_arguments: Sequence[Any]
    decode: bool = False


def _raise_first(replies: Iterable[Any]) -> None:
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply


class Epoch:
    """One coredis client's life. Its pool loses a slot whenever a socket dies in its hands, so after trouble it is given up whole."""

    def __init__(
        self, client: coredis.Redis[bytes], url: RedisUrl, silence_s: float, pace: Pace, door: Door | None = None
    ) -> None:
        self.client = client
        self._door = door
        self._url = url
        self.entered = trio.Event()
        self.retired = trio.Event()
        self._silence_s = silence_s
        self._pace = pace
        self._connection: Socket | None = None
        self.tracking: Tracking | None = None
        """If it hears of keys that change."""
        self._transacts = False
        self._asks_again_at = -math.inf
        self._is_silent: bool | None = None
        self._error: BaseException | None = None

    @property
    def is_over(self) -> bool:
        """Whether it was given up, or its socket is gone."""
        return self.retired.is_set() or (self._connection is not None and not self._connection.usable)

    async def connection(self) -> Socket:
        """Its socket, which any number of requests share. Raises what coredis raised when it was opened."""
        if not self.entered.is_set():
            await self.entered.wait()
        if self._error is not None:
            raise why_not_open(self._error, self._url) from self._error
        if self._connection is None or self.retired.is_set():
            raise Unavailable("the connection broke while it was opened")
        return self._connection

    async def evaluate(self, script: Script, *words: Any) -> Any:
        """Run a script; `words`: the number of its keys, its keys, its arguments."""
        connection = await self.connection()
        try:
            return await self._patiently(connection, connection.ask(b"EVALSHA", script.sha, *words))
        except exceptions.NoScriptError:  # Redis is new, or somebody flushed its scripts: by its text it can't fail so
            return await self._patiently(connection, connection.ask(b"EVAL", script.text, *words))

    async def evaluate_around(
        self,
        script: Script,
        before: Sequence[Any],
        after: Sequence[Any],
        commands: Sequence[tuple[bytes, Sequence[Any]]],
    ) -> Sequence[Any] | None:
        """Run a script, commands, and the script once more, as one step. The replies of all; the first that is an error is raised.

        None if Redis takes no such steps now, and so has done nothing: it may be full, or the user have few rights.
        """
        connection = await self.connection()
        if not await self._has_transactions(connection):
            return None
        for first in ((b"EVALSHA", script.sha), (b"EVAL", script.text)):  # then what follows knows it by its digest
            # Nothing comes between these: they are written without waiting.
            words = [Words(b"MULTI", ()), Words(first[0], (first[1], *before)), *starmap(Words, commands)]
            connection.create_request_batch([*words, Words(b"EVALSHA", (script.sha, *after))])  # type: ignore[list-item]
            try:
                replies: list[Any] = await self._patiently(connection, connection.ask(b"EXEC"))
                _raise_first(replies)
            except exceptions.ExecAbortError:
                return None
            except exceptions.NoScriptError:
                continue
            return replies
        raise Unavailable("the script is gone as soon as it is there")

    async def _has_transactions(self, connection: Socket) -> bool:
        """Whether there is MULTI: were it refused, what comes after it would be carried out all the same, one by one."""
        if not self._transacts and trio.current_time() >= self._asks_again_at:
            self._asks_again_at = trio.current_time() + ASK_AGAIN_S
            connection.ask(b"MULTI")
            try:
                self._transacts = await self._patiently(connection, connection.ask(b"EXEC")) == []
            except exceptions.ConnectionError:
                raise
            except exceptions.RedisError:
                with suppress(exceptions.ResponseError):  # EXEC may be what is refused
                    await self._patiently(connection, connection.ask(b"DISCARD"))
        return self._transacts

    async def evaluate_unanswered(
        self,
        script: Script,
        before: Sequence[Any],
        after: Sequence[Any],
        commands: Sequence[tuple[bytes, Sequence[Any]]],
        then: tuple[bytes, Sequence[Any]],
    ) -> Any:
        """As `evaluate_around`, without any answers but that to `then`. Only if `can_be_silent`."""
        connection = await self.connection()
        # By its text: were it missing nobody would say so, and the commands would be carried out without it.
        step = [(b"MULTI", ()), (b"EVAL", (script.text, *before)), *commands, (b"EVALSHA", (script.sha, *after))]
        connection.send_unanswered([*step, (b"EXEC", ())])
        _, answer = await self.execute_all([ANSWER_AGAIN, then])
        return answer

    async def can_be_silent(self) -> bool:
        """Whether there is MULTI, and Redis can be told not to answer. Where it answers all the same this epoch is over: whose answer is which nobody knows."""
        connection = await self.connection()
        if not await self._has_transactions(connection):
            return False
        if self._is_silent is None:
            self._is_silent = False
            connection.send_unanswered([(b"PING", ())])
            replies = await self._replies(connection, [ANSWER_AGAIN, (b"PING", (b"answered",))])
            self._is_silent = replies == [b"OK", b"answered"]
            if not self._is_silent:
                self.retired.set()
        return self._is_silent

    @property
    def answers_always(self) -> bool:
        """Whether it was told not to, and answered all the same."""
        return self._is_silent is False

    async def execute_all(self, commands: Sequence[tuple[bytes, Sequence[Any]]]) -> Sequence[Any]:
        """Commands one after the other, in one round trip; their replies. The first that is an error is raised."""
        replies = await self._replies(await self.connection(), commands)
        _raise_first(replies)
        return replies

    async def execute_many(self, commands: Sequence[tuple[bytes, Sequence[Any]]]) -> Sequence[Any]:
        """Commands one after the other, written and awaited together: for small replies. Each is its reply, or the error that Redis answered."""
        connection = await self.connection()
        batch = connection.create_request_batch([Words(name, words) for name, words in commands])  # type: ignore[misc]
        with trio.CancelScope(shield=True):
            replies: list[Any] = await batch
        for reply in replies:
            if isinstance(reply, exceptions.ConnectionError | TimeoutError):
                raise reply
        return replies

    async def _replies(self, connection: Socket, commands: Sequence[tuple[bytes, Sequence[Any]]]) -> list[Any]:
        requests = [connection.ask(name, *words) for name, words in commands]
        replies: list[Any] = []
        for request in requests:
            try:
                replies.append(await self._patiently(connection, request))
            except exceptions.ResponseError as error:
                replies.append(error)
        return replies

    async def run(self, command: Callable[[coredis.Redis[bytes]], Awaitable[T]]) -> T:
        """Await a command of the client's."""
        connection = await self.connection()
        # Within the client nobody asks whether anything moves: it waits behind what goes out over the same socket.
        is_slow = self._pace.is_slow or connection.is_sending
        connection.be_patient(self._silence_s * (SILENCES_WHEN_SLOW if is_slow else 1))
        with trio.CancelScope(shield=True):
            reply = await command(self.client)
        return reply  # noqa: RET504 - within the block mypy would miss a return after it

    async def execute(self, *words: Any) -> Any:
        """Any command, word by word; its reply as it comes."""
        connection = await self.connection()
        return await self._patiently(connection, connection.ask(*words))

    async def _ask_first(self, connection: Socket, *words: Any) -> Any:
        try:
            return await self._patiently(connection, connection.ask(*words))
        except FOREIGN as error:
            raise translate(error) from error

    async def _patiently(
        self, connection: Socket, request: Request, *, timeout_s: float | None = None, shield: bool = True
    ) -> Any:
        """The reply, however long it is on its way, as long as anything moves: a dead link is one where nothing does."""
        read = connection.statistics.bytes_read
        try:
            return await request.reply(timeout_s or self._silence_s, shield=shield)
        except TimeoutError as error:
            alive = connection.statistics.bytes_read != read or connection.is_sending or self._pace.is_slow
            if request.complete or not alive:
                raise
            return await self._while_it_moves(connection, request, error, shield)

    async def _while_it_moves(self, connection: Socket, request: Request, error: TimeoutError, shield: bool) -> Any:
        given_up_at = trio.current_time() + MOST_SILENCES * self._silence_s
        silences = 1
        while trio.current_time() < given_up_at:
            moved = connection.moved()
            try:
                return await request.reply(self._silence_s, shield=shield)
            except TimeoutError:
                if request.complete:
                    raise
                silences = silences + 1 if connection.moved() == moved else 0
                if silences >= (SILENCES_WHEN_SLOW if self._pace.is_slow else 1):
                    raise error from None
        raise TimeoutError(f"{connection.moved()} bytes have come, and the answer isn't complete: the link is too slow")

    async def block(self, words: Sequence[Any], timeout_s: float, end: Callable[[int], Awaitable[object]]) -> Any:
        """See `Connection.block`. `end` is told the number of our socket."""
        connection = await self.connection()
        request = connection.ask(*words)
        try:
            return await self._patiently(connection, request, timeout_s=timeout_s, shield=False)
        except trio.Cancelled:
            await self._end(request, partial(end, connection.client_id or 0))
            if request.answer is None:
                raise
            return request.answer  # Redis was faster: what it did for us only we know

    async def _end(self, request: Request, end: Callable[[], Awaitable[object]]) -> None:
        # Shielded, for we are being cancelled; bounded, for Redis may not answer: then the socket goes with what it waits for.
        # Asked again until it works: the first request may overtake the command that it shall end.
        with trio.move_on_after(END_PATIENCE_S, shield=True):
            while not request.complete:
                with suppress(BrokerError):
                    await end()
                with suppress(*FOREIGN):
                    await request.reply(0.05, shield=False)
        if not request.complete:
            self.retired.set()

    async def until_changed(self, keys: Sequence[bytes], ends_at: float, ask: Reaction) -> Changed:
        """See `Connection.until_changed`."""
        connection = await self.connection()
        if self.tracking is None:
            self.tracking = Tracking(connection, partial(self._patiently, connection, shield=False))
        return await self.tracking.until_changed(keys, ends_at, ask)

    async def live(self) -> None:
        """Keep the client open until it is retired, however its owner is cancelled. It may fall over before: its callers hear of it."""
        try:
            with trio.CancelScope(shield=True):
                async with self.client:
                    pool = self.client.connection_pool
                    self._connection = await pool.get_connection()
                    pool.release(self._connection)  # shared: what needs the client's own commands finds the same socket
                    if self._door is not None:
                        await self._door(partial(self._ask_first, self._connection))
                    self.entered.set()
                    await self.retired.wait()
        except* BrokerError as group:  # it isn't who was meant
            self._error = first_leaf(group)
        except* FOREIGN as group:  # it could not be opened, or a socket died while it was closed
            self._error = first_leaf(group)
        except* Exception as group:  # noqa: BLE001 - whatever it stumbled over, its callers hear of it and the next call gets another one
            logger.error("the Redis client broke, a new one is opened: %r", first_leaf(group))
        finally:
            self.retired.set()
            self.entered.set()
