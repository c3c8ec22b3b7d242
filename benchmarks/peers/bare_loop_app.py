"""The bare loop as a contestant: its jobs are enqueued by ours, which it shares the format with."""

from __future__ import annotations

import sys
from pathlib import Path

import trio
from common import CONCURRENCY, REDIS_URL, WAIT_S, count

sys.path.append(str(Path(__file__).parent.parent))

from bare_loop import BareLoop


async def empty(n: int, text: str) -> None:
    count()


async def wait(n: int, text: str) -> None:
    await trio.sleep(WAIT_S)
    count()


if __name__ == "__main__":
    trio.run(BareLoop(REDIS_URL, "bench", CONCURRENCY, {"empty": empty, "wait": wait}).run, sys.maxsize)
