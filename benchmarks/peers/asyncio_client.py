"""Enqueues with an asyncio client that sends one job a call: a hundred tasks at once, each sending its share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from common import AT_ONCE, arguments, command_line, pauses, timed

Send = Callable[[str, int, str], Awaitable[object]]
Connect = Callable[[], Awaitable[Send]]


def run(connect: Connect) -> None:
    """The three commands; `connect` gives the function that sends a job. None of these clients has a call for many."""

    async def at_once(job: str, count: int, size: int) -> None:
        send = await connect()
        waiting = iter(arguments(count, size))

        async def share() -> None:
            for n, text in waiting:
                await send(job, n, text)

        with timed():
            await asyncio.gather(*(share() for _ in range(AT_ONCE)))

    async def stamps(count: int, pause_s: float) -> None:
        send = await connect()
        for pause in pauses(count, pause_s):
            await asyncio.sleep(pause)
            await send("stamp", time.monotonic_ns(), "")

    command_line(
        lambda *given: asyncio.run(at_once(*given)),
        lambda *given: asyncio.run(at_once(*given)),
        lambda *given: asyncio.run(stamps(*given)),
    )
