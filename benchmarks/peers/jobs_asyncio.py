"""The jobs, as coroutines of asyncio; HTTP with aiohttp, asyncio's fastest client."""

from __future__ import annotations

import asyncio

import aiohttp
from common import CALLS, HOLD_S, PUZZLE, SINK, WAIT_S, count, solve, stamped

_sessions: list[aiohttp.ClientSession] = []


async def empty(n: int, text: str) -> None:
    count()


async def wait(n: int, text: str) -> None:
    await asyncio.sleep(WAIT_S)
    count()


async def fan_out(n: int, text: str) -> None:
    if not _sessions:
        _sessions.append(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
    await asyncio.gather(*(_call(name, n) for name in CALLS))
    count()


async def _call(name: str, n: int) -> None:
    async with _sessions[0].post(f"{SINK}/{name}", json={"id": n}) as response:
        response.raise_for_status()
        await response.read()


async def sudoku(n: int, text: str) -> None:
    solve(PUZZLE)
    count()


async def hold(n: int, text: str) -> None:
    count()
    await asyncio.sleep(HOLD_S)


async def stamp(n: int, text: str) -> None:
    stamped(n)


JOBS = (empty, wait, fan_out, sudoku, hold, stamp)
