"""Who wants to hear of failures: what `@app.on_error` and `@app.on_death` declare. They are told, and decide nothing."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Sequence
from typing import Protocol

import attrs

from trioworkers.errors import ConfigurationError
from trioworkers.jobs.context import Context


class Hook(Protocol):
    """An async function, `async def h(ctx, error)`."""

    def __call__(self, ctx: Context, error: BaseException, /) -> Awaitable[object]:
        """Tell somebody."""


@attrs.frozen
class Hooks:
    """`on_error`: of every attempt that failed. `on_death`: of every job that went to the dead set. Each in the order of their declaration."""

    on_error: Sequence[Hook] = ()
    on_death: Sequence[Hook] = ()

    def __bool__(self) -> bool:
        return bool(self.on_error or self.on_death)


def checked_hook(name: str, function: object) -> None:
    """Raise ConfigurationError for what is no hook."""
    called = getattr(function, "__name__", repr(function)[:80])
    if not inspect.iscoroutinefunction(function):
        raise ConfigurationError(f"{name}: {called} is no async function")
    try:
        inspect.signature(function).bind(None, None)
    except TypeError:
        raise ConfigurationError(
            f"{name}: {called} is called with a context and an error: async def {called}(ctx, error)"
        ) from None
