"""Opens the Redis clients, and keeps cancellation out of them.

Cancelling a call inside coredis can lose a slot of its pool for good, or close a socket under other tasks' feet. So every
call runs shielded, and bounded by the client's own timeouts; who waits for it notices a cancellation just before and just
after it. The one call that takes long, the blocking fetch, is ended from outside (`intake.Intake`).

A slot is also lost when a socket dies at the wrong moment; a client that saw many would one day have none left. So a client lives
for an *epoch*: after any trouble it is given up as a whole, and the next call opens a new one.
"""

from __future__ import annotations

import logging
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

import coredis
import trio
from coredis import exceptions
from coredis.retry import NoRetryPolicy

from trioworkers.broker.link import Link
from trioworkers.broker.scripts import Script
from trioworkers.broker.translation import FOREIGN, first_leaf, translated_errors
from trioworkers.errors import BrokerError, ConfigurationError, Superseded, Unavailable
from trioworkers.settings import shown_url

logger = logging.getLogger("trioworkers")

CONNECT_TIMEOUT_S = 2.0
REPLY_TIMEOUT_S = 3.0
T = TypeVar("T")


class _Epoch:
    """One coredis client's life. Its pool loses a slot whenever a socket dies in its hands, so after trouble it is given up whole."""

    def __init__(self, client: coredis.Redis[bytes]) -> None:
        self.client = client
        self.entered = trio.Event()
        self.retired = trio.Event()

    async def run(self, command: Callable[[coredis.Redis[bytes]], Awaitable[T]]) -> T:
        """Await a command on this client. Raises Unavailable if the client was given up meanwhile."""
        if self.retired.is_set():
            raise Unavailable("the connection broke while it was opened")
        try:
            return await command(self.client)
        except Exception as error:
            if self.retired.is_set() and not isinstance(error, exceptions.RedisError | OSError):
                raise Unavailable("the connection was given up") from error  # coredis stumbles over what it has closed
            raise

    async def live(self) -> None:
        """Keep the client open until it is retired, however its owner is cancelled. It may fall over before: its callers hear of it."""
        try:
            with trio.CancelScope(shield=True):
                async with self.client:
                    self.entered.set()
                    await self.retired.wait()
        except* FOREIGN:
            pass  # a socket died while it was closed, mostly
        except* Exception as group:  # noqa: BLE001 - whatever it stumbled over, its callers hear of it and the next call gets another one
            logger.error("the Redis client broke, a new one is opened: %r", first_leaf(group))
        finally:
            self.retired.set()
            self.entered.set()


class Connection:
    """A coredis client, replaced after any trouble; non-blocking calls of any number of tasks share its sockets."""

    def __init__(self, new_client: Callable[[], coredis.Redis[bytes]], nursery: trio.Nursery, link: Link) -> None:
        self._new_client = new_client
        self._nursery = nursery
        self._epoch: _Epoch | None = None
        self.link = link

    async def run(self, script: Script, keys: list[str], args: list[Any], operation: str = "") -> Any:
        """Run a Lua script. Raises Unavailable, Refused or Superseded. Not cancelled once sent: bounded by the reply timeout.

        `operation`: what the log calls it; the script's name if not given.
        """

        async def evaluate(client: coredis.Redis[bytes]) -> Any:
            try:
                return await client.evalsha(script.sha, keys, args)
            except (
                exceptions.NoScriptError
            ):  # Redis is new, or somebody flushed its scripts: by its text it can't fail so
                return await client.eval(script.text, keys, args)

        return await self.call(operation or script.name, evaluate)

    async def call(
        self,
        operation: str,
        command: Callable[[coredis.Redis[bytes]], Awaitable[T]],
        shield: trio.CancelScope | None = None,
    ) -> T:
        """Run one command. Raises Unavailable, Refused or Superseded. Not cancelled once sent: bounded by the reply timeout.

        A caller that gives the `shield` itself can break it, at the price of this client: the next call gets a new one.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        started_at = trio.current_time()
        result: list[T] = []
        epoch = self._current_epoch()
        try:
            with shield or trio.CancelScope(shield=True), translated_errors():
                if not epoch.entered.is_set():
                    await epoch.entered.wait()
                result.append(await epoch.run(command))
            if not result:
                raise Unavailable(f"{operation} was given up")
        except BrokerError as error:
            if isinstance(error, Unavailable):
                # The socket may be dead without knowing it, or lead to a server that was demoted: look anew next time.
                epoch.retired.set()
            self.link.failed(operation, error, started_at)
            raise
        self.link.succeeded(operation)
        return result[0]

    def _current_epoch(self) -> _Epoch:
        if self._epoch is None or self._epoch.retired.is_set():
            self._epoch = _Epoch(self._new_client())
            self._nursery.start_soon(self._epoch.live)
        return self._epoch

    def close(self) -> None:
        """Let the client go. There are no calls any more."""
        if self._epoch is not None:
            self._epoch.retired.set()


@asynccontextmanager
async def connect(
    url: str, link: Link, *, reply_timeout_s: float = REPLY_TIMEOUT_S, max_connections: int = 4
) -> AsyncIterator[Connection]:
    """A client of its own, closed at the end of the block. Connects when first used. Raises ConfigurationError for a bad URL.

    Cancellation: the block's body is cancelled as usual; calls under way end first.
    """
    parse_url(url)
    raised: BaseException | None = None
    async with trio.open_nursery() as nursery:
        connection = Connection(partial(_client, url, reply_timeout_s, max_connections), nursery, link)
        try:
            yield connection
        except BaseException as error:  # noqa: BLE001 - carried past the nursery, so that it comes out ungrouped
            raised = error
        connection.close()
    if raised is not None:
        raise raised


def parse_url(url: str) -> str:
    """`url`, checked: redis://, rediss:// or unix://. Raises ConfigurationError."""
    parts = urlsplit(url)
    try:
        usable = bool(parts.path) if parts.scheme == "unix" else bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if parts.scheme not in ("redis", "rediss", "unix") or not usable:
        raise ConfigurationError(
            f"{shown_url(url)!r} is no Redis URL: redis://HOST:PORT/DB, rediss://…, unix:///PATH or embedded:[DIRECTORY]"
        )
    return url


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
    for delay_s in backoff(longest_s):
        try:
            return await call()
        except final:
            raise
        except BrokerError:
            await trio.sleep(delay_s)
    raise AssertionError("backoff never ends")


def _client(url: str, reply_timeout_s: float, max_connections: int) -> coredis.Redis[bytes]:
    options: dict[str, Any] = {
        "retry_policy": NoRetryPolicy(),
        "connect_timeout": CONNECT_TIMEOUT_S,
        "stream_timeout": reply_timeout_s,
        "pool_timeout": reply_timeout_s,
        "max_connections": max_connections,
        "decode_responses": False,
        "decode_components": True,
    }
    scheme = urlsplit(parse_url(url)).scheme
    if scheme == "rediss":
        options["ssl_context"] = ssl.create_default_context()  # coredis's own context would not check the host's name
    if scheme != "unix":
        options["socket_keepalive"] = True
    return coredis.Redis.from_url(url, **options)
