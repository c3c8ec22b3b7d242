"""How much time is left, told to whom a job calls that has a deadline: as a length, for clocks differ.

The shared client serves many jobs; whose call it is it knows from the task that makes it, and from those that this one started.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import trio

if TYPE_CHECKING:
    import httpx

_ends_at: ContextVar[float | None] = ContextVar("trioworkers.ends_at", default=None)


async def telling_until(ends_at: float, call: Callable[[], Awaitable[Any]]) -> Any:
    """Await `call()`, whose requests say how long it is until `ends_at` on `trio.current_time()`'s clock. Raises what it raises."""
    token = _ends_at.set(ends_at)
    try:
        return await call()
    finally:
        _ends_at.reset(token)


def tell(request: httpx.Request, header: str | None) -> None:
    """Say in `header` of a request how many seconds are left, if its job has a deadline and nobody has said so already."""
    ends_at = _ends_at.get()
    if ends_at is not None and header is not None and header not in request.headers:
        request.headers[header] = f"{max(0.0, ends_at - trio.current_time()):.3f}"


async def telling(header: str | None, request: httpx.Request) -> None:
    """The same as a hook of a client that isn't ours."""
    tell(request, header)
