"""The shared HTTP client of a worker: its options, and how it is opened. httpx is imported only when a job first asks for it."""

from __future__ import annotations

import importlib.util
import re
import ssl
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import attrs

from trioworkers.errors import ConfigurationError

if TYPE_CHECKING:
    from trioworkers.http.shared_client import SharedClient

_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_RATE = re.compile(r"(\d+(?:\.\d+)?)/(s|m|h)")
_SECONDS = {"s": 1, "m": 60, "h": 3600}


def _positive(instance: object, field: attrs.Attribute[Any], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:  # nor is nan
        raise ConfigurationError(
            f"{type(instance).__name__}: {field.name} is a number greater than 0, not {value!r:.80}"
        )


def _count(instance: object, field: attrs.Attribute[Any], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(
            f"{type(instance).__name__}: {field.name} is a whole number from 1 on, not {value!r:.80}"
        )


def _is(words: str, *kinds: type) -> Any:
    def check(instance: object, field: attrs.Attribute[Any], value: object) -> None:
        if not isinstance(value, kinds):
            raise ConfigurationError(f"{type(instance).__name__}: {field.name} is {words}, not {value!r:.80}")

    return check


_FLAG = _is("True or False", bool)


def _rate(_: object, field: attrs.Attribute[Any], value: object) -> None:
    if value is not None and not (isinstance(value, str) and _RATE.fullmatch(value) and float(value[:-2]) > 0):
        raise ConfigurationError(f"Limit: {field.name} is like '100/s', '20/m' or '1000/h', not {value!r}")


def _header(_: object, field: attrs.Attribute[Any], value: object) -> None:
    if value is not None and not (isinstance(value, str) and _HEADER.fullmatch(value)):
        raise ConfigurationError(f"Http: {field.name} is the name of a header or None, not {value!r:.80}")


def _hosts(limits: Mapping[str, Limit]) -> dict[str, Limit]:
    """By the names as the client knows them, however they were written."""
    if not isinstance(limits, Mapping) or not all(
        isinstance(name, str) and isinstance(limit, Limit) for name, limit in limits.items()
    ):
        raise ConfigurationError(f"Http: limits are Limit(…) by the names of hosts, not {limits!r:.80}")
    return {_host(name): limit for name, limit in limits.items()}


def _host(name: str) -> str:
    name = name.lower().removesuffix(".")
    with suppress(UnicodeError):  # no name that can be called
        return name.encode("idna").decode("idna") if name.isascii() and "xn--" in name else name
    return name


@attrs.frozen
class Limit:
    """A limit for calls to a host: calls at once, and calls per second, minute or hour (`"100/s"`), evenly spaced.

    Calls wait for their turn: first come, first served. The wait is no failure. It ends with the job's deadline.
    """

    concurrency: int | None = attrs.field(default=None, validator=attrs.validators.optional(_count))
    rate: str | None = attrs.field(default=None, validator=_rate)

    @property
    def interval_s(self) -> float:
        """Seconds between two calls; 0 without a rate."""
        found = _RATE.fullmatch(self.rate or "")
        return _SECONDS[found[2]] / float(found[1]) if found else 0.0


@attrs.frozen
class Breaker:
    """After `failures` in a row (broken connections, timeouts, 5xx) a host is paused for all jobs, for `pause` seconds.

    Then one call is sent. If it fails, too, the pause doubles, up to `longest_pause`. Calls to a paused host are not sent: they raise HostPaused.
    A job with no other failure comes back after the pause, and no attempt is counted.
    """

    failures: int = attrs.field(default=20, validator=_count)
    pause: float = attrs.field(default=5.0, validator=_positive)
    longest_pause: float = attrs.field(default=60.0, validator=_positive)


@attrs.frozen
class Http:
    """Options of the shared `httpx.AsyncClient`.

    - `timeout`: seconds to connect, for each read and for each write. The wait for a free connection is bounded only by the job's deadline.
    - `max_connections`: connections in use at once, over all hosts.
    - `keepalive_expiry`: seconds that an idle connection is kept.
    - `limits`: a `Limit` by host name; `"*"` for each host that isn't named. They hold for one worker, not for the fleet.
    - `breaker`: None for no breaker.
    - `max_response_bytes`: the largest body that is read into memory, decompressed.
    - `private_addresses`: False refuses hosts whose address isn't public. Use it for URLs that come out of a job.
    - `verify`: whether to check certificates, or an SSL context of your own.
    - `follow_redirects`: whether redirects are followed.
    - `http2`, `proxy`: use httpx's own transport. Its pool becomes slower with more open calls (docs/fan-out.md). Proxies from the environment are not used.
    - `deadline_header`: calls of a job with a deadline say in this header how many seconds are left. None: they don't say it.
    """

    timeout: float = attrs.field(default=30.0, validator=_positive)
    max_connections: int = attrs.field(default=1000, validator=_count)
    keepalive_expiry: float = attrs.field(default=5.0, validator=_positive)
    limits: Mapping[str, Limit] = attrs.field(factory=dict, converter=_hosts)
    breaker: Breaker | None = attrs.field(factory=Breaker, validator=_is("Breaker(…) or None", Breaker, type(None)))
    max_response_bytes: int = attrs.field(default=16 << 20, validator=_count)
    private_addresses: bool = attrs.field(default=True, validator=_FLAG)
    verify: bool | ssl.SSLContext = attrs.field(
        default=True, validator=_is("True, False or an SSLContext", bool, ssl.SSLContext)
    )
    follow_redirects: bool = attrs.field(default=False, validator=_FLAG)
    http2: bool = attrs.field(default=False, validator=_FLAG)
    proxy: str | None = attrs.field(default=None, validator=_is("a URL", str, type(None)))
    deadline_header: str | None = attrs.field(default="X-Request-Timeout", validator=_header)

    def __attrs_post_init__(self) -> None:
        if self.http2 and importlib.util.find_spec("h2") is None:
            raise ConfigurationError("Http: http2 needs another package: pip install 'httpx[http2]'")
        if not self.private_addresses and (self.http2 or self.proxy):
            raise ConfigurationError("Http: private_addresses=False can't be kept with http2 or a proxy")


def open_client(options: Http) -> SharedClient:
    """A client with these options. Close it with `aclose()`; run its `expire()` beside it."""
    from trioworkers.http.shared_client import SharedClient  # noqa: PLC0415 - httpx is dear to import, and not every worker needs it

    return SharedClient(options)
