"""Opens connections: TCP, TLS."""

from __future__ import annotations

import ssl
from collections.abc import Sequence

import httpx
import trio

from trioworkers.http.http1 import Connection
from trioworkers.http.patience import Patience
from trioworkers.http.race import first_of
from trioworkers.http.reasons import reason
from trioworkers.http.tcp import TCPStream


async def dial(
    host: str,
    port: int,
    addresses: Sequence[str],
    ssl_context: ssl.SSLContext | None,
    timeout_s: float | None,
    patience: Patience,
    *,
    spent_s: float = 0.0,
) -> Connection:
    """A new connection to one of the host's addresses, with TLS if there is a context. `patience`: ends its waits. `spent_s`: of the timeout, on looking the host up.

    Raises httpx.ConnectError or httpx.ConnectTimeout, which say why. Cancelled, it leaves nothing open.
    """
    stream: TCPStream | None = None
    try:
        with trio.CancelScope() as scope:
            if timeout_s is not None:
                scope.deadline = trio.current_time() + timeout_s - spent_s
            stream = TCPStream(await first_of(addresses, port), patience)
            if ssl_context is None:
                return Connection(stream, stream)
            encrypted = trio.SSLStream(stream, ssl_context, server_hostname=host, https_compatible=True)
            await encrypted.do_handshake()
            return Connection(encrypted, stream)
    except (OSError, trio.BrokenResourceError) as error:
        why = reason(error) or "it hung up before the connection was there"
        _close(stream)
        raise httpx.ConnectError(f"{host}:{port}: {why}") from error
    except BaseException:
        _close(stream)
        raise
    _close(stream)
    doing = "take the connection" if stream is None else "finish the TLS handshake"
    raise httpx.ConnectTimeout(f"{host}:{port} did not {doing} within {timeout_s:g} s")


def _close(stream: TCPStream | None) -> None:
    if stream is not None:
        stream.close()
