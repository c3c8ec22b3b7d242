"""Opens the socket to a Redis: its name, TCP or a unix socket, TLS; each within its time, and without anybody else's threads.

What keeps a worker alive goes through here, also while jobs have filled Trio's threads and the name server is away (`lookup.py`).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import anyio
import trio
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.tls import TLSStream
from coredis._packer import Packer
from coredis.connection import BaseConnection, Location
from coredis.exceptions import ConnectionError as CoredisConnectionError

from trioworkers.broker.redis.metered import PIECE_BYTES, Metered, Outgoing, RawCommands
from trioworkers.broker.redis.reasons import unreachable
from trioworkers.broker.redis.request import Request
from trioworkers.errors import ConfigurationError, Unavailable, Unreachable
from trioworkers.lookup import addresses_of, remember
from trioworkers.redis_url import RedisUrl, Tls
from trioworkers.tls_context import tls_context

CONNECT_TIMEOUT_S = 2.0
NEXT_ADDRESS_AFTER_S = 0.25
"""An address that doesn't answer gets a rival after this time ("Happy Eyeballs")."""


class Address(Location):
    """Where a Redis is, as coredis's pool hands it to its connections."""

    def __init__(self, url: RedisUrl) -> None:
        self.url = url

    def __repr__(self) -> str:
        if self.url.sentinels is not None:
            return self.url.sentinels.name
        if self.url.cluster is not None:
            return f"cluster of {self.url.cluster.nodes[0][0]}"
        return self.url.path or f"{self.url.host}:{self.url.port}"

    async def check(self) -> bool:
        """Whether there is a connection to be had."""
        try:
            stream = await open_place(self.url)
        except Unreachable:
            return False
        await stream.aclose()
        return True


class Socket(BaseConnection):
    """A connection of coredis's, over a socket that we open."""

    location: Address

    def __init__(self, location: Address, **options: Any) -> None:
        super().__init__(location, **options)
        self._write_buffer_in = Outgoing(self._write_buffer_in, self._write)  # type: ignore[assignment]

    async def _connect(self) -> ByteStream:
        return Metered(await open_place(self.location.url))

    def _write(self, commands: RawCommands) -> list[bytes] | None:
        """Write these here and now if nobody else is at it; what is left for the task that writes: nothing, all, or only to go on.

        Packed here in any case, so that who asks for what has no bytes hears of it, and not all who share the connection.
        """
        data = packed(self._packer, commands)
        self.statistics.data_sent(len(data))
        stream = self.stream
        if not isinstance(stream, Metered):
            return [data]
        if not stream.may_write:
            stream.waiting += 1
            return [data]
        if stream.send_at_once(data):
            return None
        stream.waiting += 1
        return []

    async def _writer_task(self) -> None:
        """As coredis's, but of what is packed already."""
        while (stream := self.stream) is not None:
            pieces = await self._write_buffer_out.receive()
            while self._write_buffer_out.statistics().current_buffer_used > 0:
                pieces.extend(self._write_buffer_out.receive_nowait())
                await trio.lowlevel.checkpoint()
            try:
                await stream.send(b"".join(pieces))  # type: ignore[arg-type]  # see `_write`
            except Exception as error:
                self._transport_failed = True
                if isinstance(error, anyio.ClosedResourceError | anyio.BrokenResourceError):
                    raise CoredisConnectionError("Connection lost while sending request") from error
                raise

    async def _reader_task(self) -> None:
        """As coredis's, but without a timeout for each reading: we never give it one."""
        while (stream := self.stream) is not None:
            try:
                data = await stream.receive()
            except Exception as error:
                self._transport_failed = True
                if isinstance(error, anyio.EndOfStream | anyio.ClosedResourceError | anyio.BrokenResourceError):
                    raise CoredisConnectionError("Connection lost while receiving response") from error
                raise
            self.statistics.data_received(len(data))
            if self._requests:
                self._data_received(data)
            else:  # what is told without being asked for: coredis bounds how fast
                async with self._processing_budget:
                    self._data_received(data)

    def ask(self, name: bytes | str, *words: Any) -> Request:
        """Send a command. Raises coredis's ConnectionError if the connection is gone."""
        if not self.usable:
            raise CoredisConnectionError("the connection is gone") from self._last_error
        request = Request(name)
        self._write_buffer_in.send_nowait([(name, words)])  # type: ignore[list-item]  # it writes a text as well
        self._requests.append(request)  # type: ignore[arg-type]  # it asks no more of one
        return request

    def be_patient(self, silence_s: float) -> None:
        """What the client of coredis asks from now on may take so long."""
        self._stream_timeout = silence_s

    @property
    def is_sending(self) -> bool:
        """Whether a large request is going out, or has not arrived yet."""
        stream = self.stream
        return isinstance(stream, Metered) and (stream.is_sending or stream.unacknowledged() > PIECE_BYTES)

    def moved(self) -> int:
        """How many bytes have gone to and fro. While this grows the link lives, and a request or reply is on its way."""
        stream = self.stream
        sent = stream.sent - stream.unacknowledged() if isinstance(stream, Metered) else 0
        return self.statistics.bytes_read + sent

    def send_unanswered(self, commands: Sequence[tuple[bytes, Sequence[Any]]]) -> None:
        """Commands that Redis is told not to answer, nor what comes after them until it is told to answer again."""
        self._write_buffer_in.send_nowait(
            [(b"CLIENT REPLY", (b"OFF",)), *((name, (*words,)) for name, words in commands)]
        )

    def when_told(self, told: Callable[[Sequence[bytes] | None], None]) -> None:
        """Call `told` with keys that changed, as `changed` returns them, as soon as that is read; it must not raise. To be called once."""
        buffer = self._push_message_buffer_in
        pass_on = buffer.send_nowait

        def send_nowait(item: list[Any]) -> None:
            told(_keys_in(item))
            pass_on(item)

        buffer.send_nowait = send_nowait  # type: ignore[method-assign]

    async def changed(self) -> Sequence[bytes] | None:
        """Wait until Redis tells of keys that changed, and of which; None: of all, or it told something else. Raises Unavailable."""
        try:
            return _keys_in(await self._push_message_buffer_out.receive())
        except (anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError) as error:
            raise Unavailable("the connection broke") from error

    def changed_meanwhile(self) -> Sequence[bytes] | None:
        """What it has told until now, as `changed` returns it."""
        found: list[bytes] = []
        with suppress(anyio.WouldBlock, anyio.EndOfStream, anyio.ClosedResourceError):
            while True:
                keys = _keys_in(self._push_message_buffer_out.receive_nowait())
                if keys is None:
                    return None
                found += keys
        return found

    def describe(self) -> str:
        """See coredis."""
        return f"Socket<{self.location!r}>"


def packed(packer: Packer, commands: RawCommands) -> bytes:
    """These commands in Redis's protocol. A name that came from Redis and is no text (`surrogateescape`) goes back as it came. Raises UnicodeEncodeError."""
    try:
        return b"".join(packer.pack_commands([(name, *words) for name, words in commands]))
    except UnicodeEncodeError:
        return b"".join(packer.pack_commands([(name, *map(_in_bytes, words)) for name, words in commands]))


def _in_bytes(word: Any) -> Any:
    return word.encode(errors="surrogateescape") if isinstance(word, str) else word


def _keys_in(told: Sequence[Any]) -> Sequence[bytes] | None:
    keys = told[1] if len(told) == 2 and told[0] in (b"invalidate", "invalidate") else None
    return [key for key in keys if isinstance(key, bytes)] if isinstance(keys, list) else None


async def open_place(url: RedisUrl) -> ByteStream:
    """A stream to the server, wherever it is at this moment. Raises Unreachable. Cancelled, it leaves nothing open."""
    if url.cluster is not None:
        from trioworkers.broker.redis.finding_nodes import open_owner  # noqa: PLC0415 - only where somebody has a cluster

        return await open_owner(url, url.cluster)
    if url.sentinels is None:
        return await open_socket(url)
    from trioworkers.broker.redis.finding import open_primary  # noqa: PLC0415 - only where somebody has Sentinels

    return await open_primary(url, url.sentinels)


async def open_socket(url: RedisUrl) -> ByteStream:
    """A stream to the server, whose address is known. Raises Unreachable, which says why and what to do. Cancelled, it leaves nothing open."""
    timeout_s = url.connect_timeout_s or CONNECT_TIMEOUT_S
    try:
        with trio.move_on_after(timeout_s):
            if url.path is not None:
                return await anyio.connect_unix(_socket_at(url.path))
            stream = await _connect(url.host, url.port, timeout_s)
            return stream if url.tls is None else await _encrypted(stream, url.host, url.tls)
    except (OSError, ConfigurationError, anyio.EndOfStream, anyio.BrokenResourceError) as error:
        raise unreachable(error, url) from error
    raise unreachable(TimeoutError(f"no answer within {timeout_s:g} s"), url)


def _socket_at(path: str) -> str:
    """What a link leads to: its own path may be longer than a socket's can be, and the next time it may lead elsewhere."""
    return os.path.realpath(path)


async def _encrypted(stream: ByteStream, host: str, tls: Tls) -> ByteStream:
    try:
        return await TLSStream.wrap(
            stream, server_side=False, hostname=host, ssl_context=tls_context(tls), standard_compatible=False
        )
    except BaseException:
        await close(stream)
        raise


async def _connect(host: str, port: int, timeout_s: float) -> ByteStream:
    addresses = await addresses_of(host, port, timeout_s)
    stream, address = await _first_of(addresses, port)
    remember(host, address)
    raw = stream.extra(SocketAttribute.raw_socket)  # noqa: S610 - anyio's
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return stream


async def _first_of(addresses: Sequence[str], port: int) -> tuple[ByteStream, str]:
    """The first address that takes us. Raises the first error if none does."""
    won: list[tuple[ByteStream, str]] = []
    errors: list[OSError] = []
    is_over = False  # sys.exc_info() would also tell of an exception that the whole program is handling

    async def attempt(address: str, failed: trio.Event) -> None:
        try:
            stream = await anyio.connect_tcp(address, port)
        except OSError as error:
            errors.append(
                error.__cause__ if isinstance(error.__cause__, OSError) else error
            )  # anyio says only that it failed
            failed.set()
            return
        won.append((stream, address))
        nursery.cancel_scope.cancel()

    try:
        async with trio.open_nursery() as nursery:
            for address in addresses:
                failed = trio.Event()
                nursery.start_soon(attempt, address, failed)
                with trio.move_on_after(NEXT_ADDRESS_AFTER_S):
                    await failed.wait()
        is_over = True
    finally:
        # Two may have won at the same moment, or we were cancelled at that moment.
        kept = won[0] if won and is_over else None
        for stream, _ in won[1:] if kept else won:
            await close(stream)
    if kept is None:
        raise errors[0] if errors else socket.gaierror(socket.EAI_NONAME, "no address")
    return kept


async def close(stream: ByteStream) -> None:
    """Close it, whatever the other side does."""
    with suppress(OSError, anyio.BrokenResourceError):
        await anyio.aclose_forcefully(stream)
