"""Processes that compute, and what functions do to them: whatever it is, the call ends, and nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio
from harness import group_of

from trioworkers.errors import CPUWorkerDied
from trioworkers.jobs import compute_process
from trioworkers.jobs.compute import STARTS, CPUPool

pytestmark = pytest.mark.trio

LONG_S = 600


@asynccontextmanager
async def pool(processes: int = 2) -> AsyncIterator[CPUPool]:
    """A pool, all of whose groups are empty when it is closed."""
    async with trio.open_nursery() as nursery:
        opened = CPUPool(nursery, processes)
        try:
            yield opened
        finally:
            leaders = [process._process.pid for process in compute_process.living]
            await opened.aclose()
    with trio.fail_after(60):
        while any(group_of(leader) for leader in leaders):
            await trio.sleep(0.01)
    assert not compute_process.living


def double(number: int) -> tuple[int, int]:
    return 2 * number, os.getpid()


class Odd(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(one)
        self.two = two

    def __reduce__(self) -> object:
        return (Odd, (1,))  # which makes none


def fails() -> None:
    raise ValueError("as asked")


def fails_oddly() -> None:
    raise Odd(1, 2)


def exits() -> None:
    sys.exit(3)


def interrupts() -> None:
    raise KeyboardInterrupt


async def test_results_and_errors_come_back_from_the_same_process():
    async with pool() as cpu:
        _, first = await cpu.run(double, 1)
        for function, words in (
            (fails, "ValueError: as asked"),
            (fails_oddly, "RuntimeError: Odd: 1"),
            (exits, "RuntimeError: SystemExit: 3"),
            (interrupts, "RuntimeError: KeyboardInterrupt"),
        ):
            with pytest.raises((ValueError, RuntimeError)) as raised:
                await cpu.run(function)
            assert f"{type(raised.value).__name__}: {raised.value}".startswith(words)
            assert function.__name__ in [entry.name for entry in raised.traceback]
        assert await cpu.run(double, 4) == (8, first)


async def test_large_arguments_and_results_pass():
    async with pool() as cpu:
        text = "x" * (8 << 20)
        assert await cpu.run(str.upper, text) == text.upper()


async def test_no_more_compute_at_once_than_there_are_processes():
    async with pool(2) as cpu, trio.open_nursery() as nursery:
        seen: set[int] = set()

        async def compute(number: int) -> None:
            result, pid = await cpu.run(double, number)
            assert result == 2 * number
            seen.add(pid)

        for number in range(20):
            nursery.start_soon(compute, number)
    assert len(seen) <= 2


def dies_of_term() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(LONG_S)


def leaves_at_once() -> None:
    os._exit(0)


def closes_descriptors() -> None:
    os.closerange(3, 256)
    time.sleep(LONG_S)


def forks_and_dies() -> None:
    if os.fork() == 0:
        time.sleep(LONG_S)
    os._exit(4)


@pytest.mark.parametrize("function", [dies_of_term, leaves_at_once, closes_descriptors, forks_and_dies])
async def test_process_that_ends_or_falls_silent_is_the_calls_failure(function: Callable[[], None]):
    async with pool() as cpu:
        with trio.fail_after(30), pytest.raises(CPUWorkerDied, match=function.__name__):
            await cpu.run(function)
        assert (await cpu.run(double, 2))[0] == 4


def forks_and_stays(note: str) -> None:
    if os.fork():  # one of them: who writes second makes it empty first, and may be killed before it goes on
        subprocess.Popen(["sleep", str(LONG_S)])
        Path(note).write_text(str(os.getpgrp()))
    while True:
        pass


def starts_a_pool(note: str) -> None:
    with ProcessPoolExecutor(2) as executor:
        executor.submit(os.getpid).result()
        Path(note).write_text(str(os.getpgrp()))
        executor.submit(time.sleep, LONG_S)


@pytest.mark.parametrize("function", [forks_and_stays, starts_a_pool])
async def test_cancelled_call_ends_with_all_that_it_started(function: Callable[[str], None], tmp_path: Path):
    note = tmp_path / "group"
    async with pool() as cpu, trio.open_nursery() as nursery:
        nursery.start_soon(cpu.run, function, str(note))
        with trio.fail_after(30):
            while not note.exists() or not note.read_text():
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    with trio.fail_after(60):
        while group_of(int(note.read_text())):
            await trio.sleep(0.01)


def returns_twice() -> int:
    os.fork()
    return os.getpid()


async def test_function_that_returns_in_a_forked_child_too_returns_once():
    async with pool() as cpu:
        for _ in range(3):
            pid = await cpu.run(returns_twice)
            assert await cpu.run(double, 1) == (2, pid)


def leaves_things_behind() -> None:
    threading.Thread(target=time.sleep, args=(LONG_S,)).start()
    ThreadPoolExecutor().submit(time.sleep, LONG_S)
    ProcessPoolExecutor().submit(time.sleep, LONG_S)
    subprocess.Popen(["sleep", str(LONG_S)])


async def test_what_a_function_leaves_behind_goes_with_its_process():
    async with pool() as cpu:
        await cpu.run(leaves_things_behind)
        assert (await cpu.run(double, 3))[0] == 6


def ends_of_children() -> list[int]:
    program = subprocess.Popen(["sleep", str(LONG_S)])
    program.terminate()
    forked = os.fork()
    if forked == 0:
        time.sleep(LONG_S)
    os.kill(forked, signal.SIGTERM)
    return [program.wait(), os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1])]


async def test_what_a_function_starts_can_be_terminated():
    async with pool() as cpu:
        assert await cpu.run(ends_of_children) == [-signal.SIGTERM] * 2


async def test_idle_process_that_ended_is_replaced():
    async with pool() as cpu:
        _, first = await cpu.run(double, 1)
        os.kill(first, signal.SIGKILL)
        (process,) = compute_process.living
        await process.ended.wait()
        result, second = await cpu.run(double, 2)
        assert result == 4
        assert second != first


async def test_process_that_never_comes_up_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "child.py").write_text(
        f"import os\nopen({str(tmp_path / 'started')!r}, 'a').write('x')\nos.kill(os.getpid(), 15)\n"
    )
    monkeypatch.setattr(compute_process, "compute_child", SimpleNamespace(__file__=str(tmp_path / "child.py")))
    async with pool() as cpu:
        with pytest.raises(CPUWorkerDied, match=r"no process for run_cpu comes up.*was ended by signal 15"):
            await cpu.run(double, 1)
    assert (tmp_path / "started").read_text() == "x" * STARTS
