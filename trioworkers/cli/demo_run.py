"""`trioworkers demo`: the main job on real input, from an empty machine.

A private Valkey, a stand-in for four analytics services (one slow, one failing now and then), jobs in the bytes that Ruby's
Sidekiq writes, a real worker process with the example handlers; and then what became of it all.
"""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import trio
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from trioworkers.broker.redis.connection import Connection, connect
from trioworkers.broker.redis.link import Link
from trioworkers.broker.redis.server import open_server
from trioworkers.cli.demo_services import NAMES, Services
from trioworkers.redis_url import shown_url
from trioworkers.wording import counted

TRACKED, PUZZLES, PAGES = 2000, 50, 12
JOBS = TRACKED + PUZZLES + PAGES + 3
"""Of a book: the job that sends its pages, one that binds them, and its callback."""
TIME_LIMIT_S = 60.0
PUZZLE = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79"


@attrs.define
class Seen:
    """What the demo knows of its jobs."""

    processed: int = 0
    failed: int = 0
    solved: dict[int, str] = attrs.field(factory=dict)
    bound: list[list[str]] = attrs.field(factory=list)
    ready: int = 0
    left: dict[str, int] = attrs.field(factory=dict)

    @property
    def done(self) -> int:
        """Jobs that succeeded."""
        return self.processed - self.failed


def demo(redis: str) -> None:
    """Run it. Exits with status 1 and a reason if anything was lost or left."""
    console = Console(highlight=False)
    problem = trio.run(_demo, redis, console)
    if problem:
        console.print(f"The demo failed: {problem}")
        sys.exit(1)


async def _demo(redis: str, console: Console) -> str:
    started = time.monotonic()
    async with open_server(redis) as url, connect(url, Link(shown_url(url))) as connection:
        existing = await connection.commands("dbsize").dbsize()
        if existing:
            return f"the Redis at {shown_url(url)} is not empty; the demo wants one of its own"
        await _push(connection)
        async with trio.open_nursery() as nursery:
            services = Services()
            port = await nursery.start(services.serve)
            console.print(
                f"{TRACKED} tracking jobs, {PUZZLES} puzzles and a book of {PAGES} are in Redis, as Ruby's Sidekiq writes them."
            )
            with _worker(url, port) as worker:
                working = time.monotonic()
                seen, problem = await _watch(connection, worker, console)
                elapsed_s = time.monotonic() - working
                problem = problem or await _stop(worker)
            nursery.cancel_scope.cancel()
        _tell(console, seen, services, elapsed_s)
        console.print(f"All in all {time.monotonic() - started:.1f} s.")
        return problem or _verdict(seen, services)


async def _push(connection: Connection) -> None:
    tracking = [_ruby_payload("track", "TrackUserJob", _user(number), number) for number in range(TRACKED)]
    puzzles = [_ruby_payload("unsolved_puzzles", "SudokuSolver", [n, _shifted(n)], n) for n in range(PUZZLES)]
    book = [_ruby_payload("books", "PuzzleBook", [7, [_shifted(n) for n in range(PAGES)]], 0)]
    push = connection.commands("push")
    for queue, payloads in (("track", tracking), ("unsolved_puzzles", puzzles), ("books", book)):
        await push.sadd("queues", [queue])
        for first in range(0, len(payloads), 500):
            chunk = payloads[first : first + 500]
            await push.lpush(f"queue:{queue}", chunk)


def _user(number: int) -> list[object]:
    user = {
        "id": number,
        "name": f"Zoë {number}",
        "email": f"user{number}@example.org",
        "url": f"https://example.org/{number}",
        "ip_address": f"192.0.2.{number % 256}",
    }
    return [user] if number % 2 else list(user.values())


def _shifted(number: int) -> str:
    """The puzzle with its digits renamed: another one every time, as hard as before."""
    return "".join(str((int(c) - 1 + number) % 9 + 1) if c.isdigit() else c for c in PUZZLE)


def _ruby_payload(queue: str, job_class: str, args: list[object], number: int) -> bytes:
    """As `Sidekiq::Client.push` writes it: seconds as floats up to Sidekiq 7, whole milliseconds from 8.0 on."""
    now = time.time()
    stamp: float | int = now if number % 4 < 2 else int(now * 1000)
    fields = {"retry": True, "queue": queue, "class": job_class, "args": args, "jid": secrets.token_hex(12)}
    fields |= {"created_at": stamp, "enqueued_at": stamp}
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()


@contextmanager
def _worker(url: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    target, folder = _target()
    services = ",".join(f"{name}=http://127.0.0.1:{port}/{name}" for name in NAMES)
    command = [sys.executable, "-m", "trioworkers", "run", target, "--redis", url, "--process-id", "demo"]
    command += ["--log-level", "error"]
    environment = {**os.environ, "TRACKING_SERVICES": services}
    with subprocess.Popen(command, cwd=folder, env=environment) as process:  # noqa: S603 - our own command
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def _target() -> tuple[str, Path | None]:
    """The examples have one source: beside the package in a checkout, inside it where the wheel is installed."""
    if importlib.util.find_spec("trioworkers.examples") is not None:
        return "trioworkers.examples:app", None
    return "handlers:app", Path(__file__).parent.parent.parent


async def _watch(connection: Connection, worker: subprocess.Popen[bytes], console: Console) -> tuple[Seen, str]:
    seen = Seen()
    deadline = trio.current_time() + TIME_LIMIT_S
    with _progress(console) as show:
        while True:
            await _look(connection, seen)
            show(seen)
            if seen.done >= JOBS and len(seen.solved) >= PUZZLES and not any(seen.left.values()):
                return seen, ""
            if worker.poll() is not None:
                return seen, f"the worker ended with status {worker.returncode}"
            if trio.current_time() > deadline:
                return seen, f"not finished after {TIME_LIMIT_S:.0f} s: {seen.left}"
            await trio.sleep(0.1)


async def _look(connection: Connection, seen: Seen) -> None:
    read = connection.commands("look")
    processed, failed = await read.mget(["stat:processed", "stat:failed"])
    seen.processed, seen.failed = int(processed or 0), int(failed or 0)
    while result := await read.lpop("queue:solved"):  # the demo plays Ruby here
        _answer(seen, json.loads(result))
    for queue in ("track", "unsolved_puzzles", "books"):
        for key in (f"queue:{queue}", f"queue:{queue}:demo:inprogress"):
            seen.left[key] = await read.llen(key)
    for key in ("retry", "schedule", "dead", "tw:successors"):
        seen.left[key] = await read.zcard(key)


def _answer(seen: Seen, job: dict[str, Any]) -> None:
    match job["class"], job["args"]:
        case "SolvedPuzzleJob", [number, solved]:
            seen.solved[number] = solved
        case "SolvedBookJob", [_, solutions]:
            seen.bound.append(solutions)
        case "BookReadyJob", _:
            seen.ready += 1


@contextmanager
def _progress(console: Console) -> Iterator[Callable[[Seen], None]]:
    if not console.is_terminal:
        shown = -1.0

        def line(seen: Seen) -> None:
            nonlocal shown
            if trio.current_time() - shown >= 1:
                shown = trio.current_time()
                console.print(f"done {seen.done} of {JOBS}, retried {seen.failed}, solved {len(seen.solved)}")

        yield line
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        done, solved = (
            progress.add_task("jobs done", total=JOBS),
            progress.add_task("puzzles", total=PUZZLES),
        )

        def bars(seen: Seen) -> None:
            progress.update(done, completed=seen.done, description=f"jobs done, {seen.failed} retried")
            progress.update(solved, completed=len(seen.solved))

        yield bars


async def _stop(worker: subprocess.Popen[bytes]) -> str:
    worker.terminate()
    with trio.move_on_after(10):
        while worker.poll() is None:  # noqa: ASYNC110 - a process sets no event
            await trio.sleep(0.02)
        return "" if worker.returncode == 0 else f"the worker ended with status {worker.returncode}"
    return "the worker did not stop"


def _tell(console: Console, seen: Seen, services: Services, elapsed_s: float) -> None:
    wanted = TRACKED * len(NAMES)
    console.print(
        f"\nJobs done       {seen.done} ({seen.done / elapsed_s:.0f} a second), attempts that were retried: {seen.failed}"
    )
    console.print(
        f"Requests sent   {services.total} for {wanted} calls; {services.refused} were answered 503 and sent again"
    )
    spared = seen.failed * len(NAMES) - services.refused
    console.print(f"Partial retry   {spared} calls were not repeated, for they were done in an earlier attempt")
    pages = sum(map(len, seen.bound))
    pages, came = sum(map(len, seen.bound)), "once" if seen.ready == 1 else counted(seen.ready, "time")
    console.print(f"Pages of a book {pages}, a batch: bound when the last was solved; its callback came {came}")
    console.print(f"Puzzles solved  {len(seen.solved)}, one of them:\n")
    if 0 in seen.solved:
        for before, after in zip(_grid(_shifted(0)), _grid(seen.solved[0]), strict=True):
            console.print(f"    {before}        {after}")
    left = {name: count for name, count in seen.left.items() if count}
    console.print(f"\nLeft in Redis   {left or 'nothing: no job waits, runs, retries or is dead'}")


def _grid(cells: str) -> list[str]:
    return [" ".join(cells[row : row + 9]) for row in range(0, 81, 9)]


def _verdict(seen: Seen, services: Services) -> str:
    if services.delivered != TRACKED * len(NAMES):
        return f"{services.delivered} calls arrived instead of {TRACKED * len(NAMES)}"
    if services.repeated:
        return f"{services.repeated} calls were made again although they had succeeded"
    if seen.bound != [[seen.solved[number] for number in range(PAGES)]] or seen.ready != 1:
        return f"the book was bound {len(seen.bound)} times, and told of {seen.ready} times"
    if any("." in solution for solution in seen.solved.values()):
        return "a puzzle was not solved"
    return ""
