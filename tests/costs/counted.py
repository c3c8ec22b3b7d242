"""A worker or a client that counts what its interpreter does: `python counted.py worker|client|sync|asyncio|holder FILE`, with REDIS_URL and SINK.

With QUEUES, the worker has these in one capsule. Clients send COUNT jobs at once.

Counted is, in the thread of the event loop, each instruction of Python, and each block of memory that is there when a function begins, waits or ends
and was not there the last time that one did: figures that don't depend on how fast the machine is, or what else it does. (To look for blocks at each
instruction takes ten times as long: Python counts them anew for who asks.) Counting is slow, some ten times; so Trio's
clock stands still, or else there would be more heartbeats and expired waits in them than in use. Python's garbage collector is off.
FILE is where they stand after each pass of the event loop, so that asking for them costs nothing.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import mmap
import os
import random
import selectors
import signal
import sys
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import httpx  # noqa: F401 - that the first call imports it is not what is counted
import trio
import trio.testing
from costs_app import app, app_with_a_capsule, empty, waiting

import trioworkers.asyncio
import trioworkers.sync
from trioworkers import Client, Job
from trioworkers.engine import watchdog
from trioworkers.process import log_writer
from trioworkers.process.logs import configure_logging

PACKAGE = str(Path(str(trioworkers.__file__)).parent)
REPLY_S = 0.02


def is_ours(filename: str) -> bool:
    """Whether it is our code, or what attrs made for our classes."""
    return filename.startswith(PACKAGE) or (filename.startswith("<attrs generated") and "trioworkers" in filename)


class Counter:
    """What this thread has done since `start`."""

    def __init__(self) -> None:
        self._ours, self._others = [0], [0]
        self._allocations = 0
        self._blocks = 0

    def start(self) -> None:
        """For functions that are called from now on, and for coroutines that go on."""
        ours, others = self._tracer(self._ours), self._tracer(self._others)

        def on_call(frame: FrameType, _: str, __: object) -> Any:
            self._look_for_blocks()
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
            return ours if is_ours(frame.f_code.co_filename) else others

        gc.disable()
        sys._getframe().f_trace_opcodes = (
            True  # Python 3.12 looks, when it is told to trace, whether anybody wants this
        )
        self._blocks = sys.getallocatedblocks()
        sys.settrace(on_call)

    def _tracer(self, instructions: list[int]) -> Any:
        def tracer(_: FrameType, event: str, __: object) -> Any:
            if event == "opcode":
                instructions[0] += 1
            else:
                self._look_for_blocks()
            return tracer

        return tracer

    def _look_for_blocks(self) -> None:
        blocks = sys.getallocatedblocks()
        if blocks > self._blocks:
            self._allocations += blocks - self._blocks
        self._blocks = blocks

    def read(self) -> tuple[int, int, int]:
        """Instructions of ours, instructions of others, allocations."""
        return self._ours[0], self._others[0], self._allocations


class Pace(trio.abc.Instrument):
    """Has the loop look for replies when Redis has surely sent them, and publishes the figures when it does.

    Without the first, how many passes the loop makes would depend on what the machine does beside.
    """

    def __init__(self, counter: Counter, file: Path) -> None:
        self._counter = counter
        with file.open("r+b") as opened:
            self._published = memoryview(mmap.mmap(opened.fileno(), 32)).cast("Q")

    def before_io_wait(self, timeout: float) -> None:
        """The loop has nothing to do."""
        time.sleep(REPLY_S)
        ours, others, allocations = self._counter.read()
        published = self._published
        published[0], published[1], published[2], published[3] = ours, others, allocations, 1

    def after_io_wait(self, timeout: float) -> None:
        """It has again."""
        self._published[3] = 0


class PacedSelector(selectors.DefaultSelector):
    """Has an asyncio loop look for replies when Redis has surely sent them, as `Pace` does."""

    def select(self, timeout: float | None = None) -> list[Any]:
        """Wait for news."""
        time.sleep(REPLY_S)
        return super().select(timeout)


class FirstComeFirstServed(random.Random):
    """Trio's dice, which decide whether what is ready runs in its order or backwards."""

    def random(self) -> float:
        return 0.0


def say(what: object) -> None:
    os.write(1, json.dumps(what).encode() + b"\n")


async def worker() -> None:
    """Run. Who started it ends it."""
    queues = os.environ.get("QUEUES", "").split()
    async with trio.open_nursery() as nursery:
        await nursery.start((app_with_a_capsule(queues) if queues else app).serve)
        if what != "holder":
            counter.start()
        say("started")


async def holder() -> None:
    """Run; say at each SIGUSR1 how many jobs wait, and how many blocks of memory there are."""

    def held(*_: object) -> None:
        gc.collect()
        say([len(waiting), sys.getallocatedblocks()])

    signal.signal(signal.SIGUSR1, held)
    await worker()


def calls() -> Iterator[list[Job]]:
    """The jobs of each. Says the figures before and after it, for ever. The first one, which connects, isn't counted: within the time that it has."""
    at_once = int(os.environ["COUNT"])
    yield [empty.job(1, "two") for _ in range(at_once)]
    counter.start()
    while True:
        before = counter.read()
        yield [empty.job(1, "two") for _ in range(at_once)]
        say([before, counter.read()])


async def client() -> None:
    """Make them."""
    async with Client() as sender:
        for jobs in calls():
            await sender.enqueue(*jobs)


def sync_client() -> None:
    """The same in a program that blocks."""
    with trioworkers.sync.Client() as sender:
        for jobs in calls():
            sender.enqueue(*jobs)


async def asyncio_client() -> None:
    """The same over asyncio."""
    async with trioworkers.asyncio.Client() as sender:
        for jobs in calls():
            await sender.enqueue(*jobs)


if __name__ == "__main__":
    counter = Counter()
    assert watchdog.TOLERANCE_S
    watchdog.TOLERANCE_S = (
        3600.0  # so slow a loop looks blocked, and what it does for one that is isn't what is counted
    )
    trio._core._run._r = FirstComeFirstServed()  # type: ignore[attr-defined]
    if "LOG" in os.environ:
        logging.getLogger("trioworkers").addHandler(logging.NullHandler())  # as the command has it
        log_writer.time = count(1758000000.0, 0.0001).__next__  # whose milliseconds aren't more on a slow machine
        sys.setswitchinterval(3600)  # or else how often the thread that writes is woken would be luck
        configure_logging("text", "info", Path(os.environ["LOG"]).open("w"))  # noqa: SIM115 - for as long as the process lives
    what, file = sys.argv[1], Path(sys.argv[2])
    if what == "sync":
        sync_client()
    elif what == "asyncio":
        with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(PacedSelector())) as runner:
            runner.run(asyncio_client())
    else:
        function = {"worker": worker, "client": client, "holder": holder}[what]
        trio.run(function, clock=trio.testing.MockClock(), instruments=[Pace(counter, file)])
