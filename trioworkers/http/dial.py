"""Opens connections: name lookup, TCP, TLS."""

from __future__ import annotations

import ipaddress
import ssl
from contextlib import suppress

import httpx
import trio

from trioworkers.errors import PrivateAddress
from trioworkers.http.http1 import Connection
from trioworkers.http.tcp import TCPStream

NEXT_ADDRESS_AFTER_S = 2.0
GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


async def dial(
    host: str,
    port: int,
    ssl_context: ssl.SSLContext | None,
    timeout_s: float | None,
    *,
    private_addresses: bool = True,
) -> Connection:
    """A new connection, with TLS if there is a context. `private_addresses`: may they be called?

    Raises httpx.ConnectError, httpx.ConnectTimeout or PrivateAddress. Cancelled, it leaves nothing open.
    """
    stream: TCPStream | None = None
    try:
        with trio.CancelScope() as scope:
            if timeout_s is not None:
                scope.deadline = trio.current_time() + timeout_s
            stream = TCPStream(await _connect(host, port, private_addresses=private_addresses))
            if ssl_context is None:
                return Connection(stream, stream)
            encrypted = trio.SSLStream(stream, ssl_context, server_hostname=host, https_compatible=True)
            await encrypted.do_handshake()
            return Connection(encrypted, stream)
    except (OSError, trio.BrokenResourceError) as error:
        _close(stream)
        raise httpx.ConnectError(f"{host}:{port}: {error.__cause__ or error}") from error
    except BaseException:
        _close(stream)
        raise
    _close(stream)
    raise httpx.ConnectTimeout(f"{host}:{port} did not answer within {timeout_s:g} s")


async def _connect(host: str, port: int, *, private_addresses: bool) -> trio.SocketStream:
    if private_addresses:
        return await trio.open_tcp_stream(host, port)
    # What was looked at is what is called: a name that resolves differently the next time must not get by.
    found = await trio.socket.getaddrinfo(host, port, type=trio.socket.SOCK_STREAM)
    addresses = [str(entry[4][0]) for entry in found]
    for address in addresses:
        if not is_public(address):
            raise PrivateAddress(f"{host} has the address {address}, which is not public")
    for address in addresses[:-1]:
        with suppress(OSError), trio.move_on_after(NEXT_ADDRESS_AFTER_S):
            return await trio.open_tcp_stream(address, port)
    return await trio.open_tcp_stream(addresses[-1], port)


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet; of one that carries an IPv4 address inside, whether that is."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv4Address):
        return ip.is_global and not ip.is_multicast
    if ip.ipv4_mapped is not None:
        return is_public(str(ip.ipv4_mapped))
    if ip in NAT64:
        return is_public(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)))
    inner = ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
    return ip in GLOBAL_UNICAST and (is_public(str(inner)) if inner is not None else ip.is_global)


def _close(stream: TCPStream | None) -> None:
    if stream is not None:
        stream.close()
