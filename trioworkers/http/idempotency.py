"""The key by which a service knows a request that it has had already: one for each named piece of work of a job, the same in every attempt."""

from __future__ import annotations

import hashlib
from contextvars import ContextVar
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    import httpx

HEADER = "Idempotency-Key"
MAX_KEY = 255
"""Characters of an idempotency key that services take; and no header has room for any name."""

_key: ContextVar[str | None] = ContextVar("trioworkers.idempotency_key", default=None)


def idempotency_key(jid: str, name: str) -> str:
    """`JID:NAME`, the same in every attempt; percent-encoded where a header can't carry it, a hash of the name where it is too long."""
    key = f"{jid}:{name}"
    if not (key.isascii() and key.isprintable()):
        key = quote(key, safe=":")
    return key if len(key) <= MAX_KEY else f"{quote(jid)[: MAX_KEY - 65]}:{hashlib.sha256(name.encode()).hexdigest()}"


def current_key() -> str | None:
    """The key of the step that this task is in, if it is in one."""
    return _key.get()


class under_key:  # noqa: N801 - used as a function; a generator would cost each step more than all else that is here
    """Requests of the shared client that are made inside, also by tasks that are started there, carry `key`."""

    __slots__ = ("_key", "_token")

    def __init__(self, key: str) -> None:
        self._key = key

    def __enter__(self) -> None:
        self._token = _key.set(self._key)

    def __exit__(self, *_: object) -> None:
        _key.reset(self._token)


def sign(request: httpx.Request) -> None:
    """Put the step's key on a request, if it is made in one and nobody has put another on it."""
    key = _key.get()
    if key is not None and HEADER not in request.headers:
        request.headers[HEADER] = key


async def signing(request: httpx.Request) -> None:
    """The same as a hook of a client that isn't ours."""
    sign(request)
