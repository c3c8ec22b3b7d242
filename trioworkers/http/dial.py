"""Opens connections: name lookup, TCP, TLS."""

from __future__ import annotations

import ssl

import httpx
import trio

from trioworkers.http.connection import Connection


async def dial(host: str, port: int, ssl_context: ssl.SSLContext | None, timeout_s: float | None) -> Connection:
    """A new connection, with TLS if there is a context. Raises httpx.ConnectError or ConnectTimeout. Cancelled, it leaves nothing open."""
    stream: trio.SocketStream | None = None
    try:
        with trio.CancelScope() as scope:
            if timeout_s is not None:
                scope.deadline = trio.current_time() + timeout_s
            stream = await trio.open_tcp_stream(host, port)
            if ssl_context is None:
                return Connection(stream, stream)
            encrypted = trio.SSLStream(stream, ssl_context, server_hostname=host, https_compatible=True)
            await encrypted.do_handshake()
            return Connection(encrypted, stream)
    except (OSError, trio.BrokenResourceError) as error:
        await _close(stream)
        raise httpx.ConnectError(f"{host}:{port}: {error.__cause__ or error}") from error
    except BaseException:
        await _close(stream)
        raise
    await _close(stream)
    raise httpx.ConnectTimeout(f"{host}:{port} did not answer within {timeout_s:g} s")


async def _close(stream: trio.SocketStream | None) -> None:
    if stream is not None:
        await trio.aclose_forcefully(stream)
