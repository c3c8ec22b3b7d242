"""The `httpx.AsyncClient` that all jobs of a worker share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

from trioworkers.http.governor import GovernedTransport
from trioworkers.http.pool import PoolTransport

if TYPE_CHECKING:
    from trioworkers.http import Http


class SharedClient(httpx.AsyncClient):
    """Keeps no cookies: what one job is given must not be sent for another."""

    def __init__(self, options: Http) -> None:
        super().__init__(
            transport=GovernedTransport(_transport(options), options),
            timeout=httpx.Timeout(options.timeout, pool=None),
            follow_redirects=options.follow_redirects,
            trust_env=False,
        )
        self._no_cookies = _NoCookies()

    @property
    def cookies(self) -> httpx.Cookies:
        """Always empty."""
        return self._no_cookies

    @cookies.setter
    def cookies(self, _: object) -> None:
        raise AttributeError(
            "the shared client keeps no cookies; send them with the request, or open a client of your own"
        )


class _NoCookies(httpx.Cookies):
    def extract_cookies(self, response: httpx.Response) -> None:
        """Take none."""


def _transport(options: Http) -> httpx.AsyncBaseTransport:
    if not options.http2 and options.proxy is None:
        return PoolTransport(options)
    limits = httpx.Limits(
        max_connections=options.max_connections,
        max_keepalive_connections=options.max_connections,
        keepalive_expiry=options.keepalive_expiry,
    )
    return httpx.AsyncHTTPTransport(
        verify=options.verify, http2=options.http2, proxy=options.proxy, limits=limits, trust_env=False
    )
