"""Serves until somebody stops the process: for programs that are no workers, and have nothing to hand back."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable

import trio


async def until_stopped(serve: Callable[[], Awaitable[None]]) -> None:
    """Run it, and cancel it at SIGINT, SIGTERM or SIGHUP; then the process has ended in good order."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                async for _ in signals:
                    nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            await serve()
            nursery.cancel_scope.cancel()
