"""From a host's name to its addresses, and whether they may be called."""

from __future__ import annotations

import ipaddress
import re

import httpx

from trioworkers.errors import PrivateAddress
from trioworkers.http.reasons import reason
from trioworkers.lookup import addresses_of

PATIENCE_S = 60.0
"""For a name whose call has no timeout: what can't be looked up by then can't be."""

MAX_NAME = 253
_NAME = re.compile(r"(?:[A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?")
GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def check_host(host: str) -> None:
    """Raise httpx.LocalProtocolError for what is no host's name: asking again won't help."""
    if ":" in host:
        return  # an IPv6 address, which httpx has read already
    if len(host) > MAX_NAME or not _NAME.fullmatch(host):
        raise httpx.LocalProtocolError(f"{host[:MAX_NAME]!r} is no name of a host")


async def look_up(host: str, port: int, timeout_s: float | None, *, private_addresses: bool) -> list[str]:
    """The addresses of a host, in the order in which to try them. Never waits for a thread that jobs may have, nor for other hosts' names.

    Raises httpx.ConnectError, httpx.ConnectTimeout or PrivateAddress. Cancelled, it leaves nothing behind that anybody waits for.
    """
    try:
        addresses = await addresses_of(host, port, PATIENCE_S if timeout_s is None else timeout_s, from_jobs=True)
    except TimeoutError as error:
        raise httpx.ConnectTimeout(f"{host}:{port}: {error}") from error
    except OSError as error:
        raise httpx.ConnectError(f"{host}:{port}: {reason(error) or error}") from error
    if not addresses:
        raise httpx.ConnectError(f"{host}:{port}: its name has no address")
    if not private_addresses:
        # What was looked at is what is called: a name that resolves differently the next time must not get by.
        for address in addresses:
            if not is_public(address):
                raise PrivateAddress(f"{host} has the address {address}, which is not public")
    return addresses


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
