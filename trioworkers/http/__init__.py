"""The shared HTTP client of a worker: its options, and how it is opened. httpx is imported only when a job first asks for it."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import attrs

from trioworkers.errors import ConfigurationError

if TYPE_CHECKING:
    import httpx


def _positive(_: object, field: attrs.Attribute[Any], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise ConfigurationError(f"Http: {field.name} is a number greater than 0, not {value!r}")


@attrs.frozen
class Http:
    """Options of the shared `httpx.AsyncClient`.

    `timeout`: seconds for connecting, for each read and for each write; waiting for a free connection only counts against the job's own
    deadline. `max_connections`: in use at once, over all hosts.
    `keepalive_expiry`: seconds that an idle connection is kept. `verify`: check certificates, or an SSL context of your own.
    Proxies from the environment are not used; redirects are followed only if asked.
    """

    timeout: float = attrs.field(default=30.0, validator=_positive)
    max_connections: int = attrs.field(default=1000, validator=_positive)
    keepalive_expiry: float = attrs.field(default=5.0, validator=_positive)
    verify: bool | ssl.SSLContext = True
    follow_redirects: bool = False


def open_client(options: Http) -> httpx.AsyncClient:
    """A client with these options. Close it with `aclose()`."""
    import httpx  # noqa: PLC0415 - dear to import, and not every worker talks HTTP

    from trioworkers.http.pool import PoolTransport  # noqa: PLC0415 - as above

    return httpx.AsyncClient(
        transport=PoolTransport(options),
        timeout=httpx.Timeout(options.timeout, pool=None),
        follow_redirects=options.follow_redirects,
        trust_env=False,
    )
