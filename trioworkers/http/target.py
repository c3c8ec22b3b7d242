"""Where a request goes, read out of its URL once for all calls to it."""

from __future__ import annotations

from functools import lru_cache

import attrs
import httpx

from trioworkers.http.outgoing import is_host

Origin = tuple[str, str, int]
"""Scheme, host as it is looked up, port: what a connection is to."""
PORTS = {"http": 80, "https": 443}


@attrs.frozen(eq=False)
class Target:
    """One URL. `host`: as people write it, for limits and metrics. `is_plain`: whether it is whole, and asks for no authentication."""

    url: httpx.URL
    host: str
    origin: Origin
    is_plain: bool

    @classmethod
    def of(cls, url: httpx.URL) -> Target:
        """The target of a URL. Whether it can be called is looked at when it is."""
        scheme = url.scheme
        port = PORTS.get(scheme, 0) if url.port is None else url.port
        return cls(
            url,
            url.host.removesuffix("."),
            (scheme, url.raw_host.decode("ascii"), port),
            not (url.is_relative_url or url.userinfo) and is_host(url.netloc),
        )


def target_of(request: httpx.Request) -> Target:
    """Of a request that may be anybody's: what it carries only counts while its URL is the same."""
    target = getattr(request, "target", None)
    return target if isinstance(target, Target) and target.url is request.url else Target.of(request.url)


@lru_cache(maxsize=1024)
def parsed(url: str | httpx.URL) -> Target:
    """Parsing costs about as much as sending; jobs of one kind call the same few URLs. Raises what httpx raises for what is none."""
    return Target.of(httpx.URL(url))
