"""Accepts connections for the dashboard's server: a bounded number at a time, and in spite of what may go wrong with one.

anycorn's own loop takes whatever comes, and ends when the process has no descriptor left. Beside a worker those are the worker's: its jobs and its Redis need them, too.
"""

from __future__ import annotations

import logging
import resource
import socket
from collections.abc import Awaitable, Callable

import anyio
import anyio.abc
import trio

logger = logging.getLogger("trioworkers.web")

PAUSE_S = 0.2
"""After a connection that could not be accepted."""
FEWEST = 8

Handler = Callable[[anyio.abc.SocketStream], Awaitable[None]]


def most_connections() -> int:
    """Half of the descriptors that this process may have. Browsers' tabs that are looked at have one each, those of others go after seconds."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 16 if soft == resource.RLIM_INFINITY else max(soft // 2, FEWEST)


async def accept_all(listener: socket.socket, handler: Handler) -> None:
    """Until cancelled. More connections than there may be wait in the kernel until one ends. Closes the listener."""
    places = trio.Semaphore(most_connections())
    is_well = True

    async def serve(stream: anyio.abc.SocketStream) -> None:
        try:
            async with stream:
                await handler(stream)
        except Exception:
            logger.exception("dashboard: a connection failed")
        finally:
            places.release()

    async with await anyio.abc.SocketListener.from_socket(listener) as accepting, trio.open_nursery() as nursery:
        while True:
            await places.acquire()
            try:
                stream = await accepting.accept()
            except anyio.BrokenResourceError as error:
                places.release()
                if is_well:
                    logger.warning("dashboard: no connection can be accepted: %s", error.__cause__)
                is_well = False
                await trio.sleep(PAUSE_S)
                continue
            is_well = True
            nursery.start_soon(serve, stream)
