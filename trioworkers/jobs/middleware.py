"""What a middleware is: an async function around every attempt, which awaits the attempt itself."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol

from trioworkers.jobs.context import Context


class CallNext(Protocol):
    """A middleware awaits it once: then the attempt runs. Raises what the attempt raises."""

    def __call__(self) -> Awaitable[Any]:
        """Run it."""


class Middleware(Protocol):
    """An async function around every attempt, `async def m(ctx, call_next)`."""

    def __call__(self, ctx: Context, call_next: CallNext, /) -> Awaitable[Any]:
        """Do something before and after `await call_next()`."""
