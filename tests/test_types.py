"""What a type checker makes of a program that uses us: mypy, strict, over a program and over its mistakes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
from typing import Any, assert_type

import trio

from trioworkers import App, CallNext, Client, Context, Handler, Job, Middleware, Worker

app = App()


@app.handler("mail", "WelcomeJob", timeout=30, retry=5, tags=["mail"])
async def welcome(ctx: Context, user: int, language: str = "en") -> str:
    return language


@app.handler("mail")
async def plain(user: int) -> None: ...


@app.handler("mail")
async def optional(ctx: Context, *ids: int) -> list[int]:
    return [*ids]


@app.middleware
async def around(ctx: Context, call_next: CallNext) -> Any:
    return await call_next()


def make(name: str) -> Middleware:
    async def named(ctx: Context, call_next: CallNext) -> None:
        await call_next()

    return named


app.middleware(make("a"))
assert_type(welcome.job(7), Job)
assert_type(welcome.job(7, language="de"), Job)
assert_type(welcome.active_job(user=7), Job)
assert_type(optional.job(1, 2, 3), Job)
assert_type(plain.job(7), Job)


async def use(ctx: Context) -> None:
    assert_type(await welcome(ctx, 7, "de"), str)
    assert_type(await welcome(ctx, user=7), str)
    assert_type(await plain(7), None)
    assert_type(await optional(ctx, 1, 2), list[int])
    await around(ctx, trio.lowlevel.checkpoint)
    async with Client() as client:
        await client.enqueue(welcome.job(7), plain.job(7))
    async with trio.open_nursery() as nursery:
        worker: Worker = await nursery.start(app.serve)
        worker.stop()


def registered(handler: Handler[..., ..., Any]) -> Handler[..., ..., Any]:
    return handler


registered(welcome)
"""
MISTAKES = [
    'welcome.job("7")',
    "welcome.job()",
    "welcome.job(7, 8)",
    "welcome.job(7, colour=1)",
    "plain.job(None)",
    'optional.job("a")',
    "trio.run(welcome, 7)",
    'app.handler("q", retry="5")',
    'app.handler("q", tags=7)',
    'app.handler("q", retries=5)',
    "app.middleware(7)",
]


def check(path: Path, text: str) -> subprocess.CompletedProcess[str]:
    path.write_text(text)
    root = Path(__file__).parent.parent
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--config-file=",
        "--cache-dir",
        str(root / ".mypy_cache"),
        str(path),
    ]
    return subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=600, check=False)


def test_program_keeps_its_types(tmp_path: Path):
    done = check(tmp_path / "program.py", PROGRAM)
    assert done.returncode == 0, done.stdout


def test_each_mistake_is_noticed_where_it_is(tmp_path: Path):
    first = PROGRAM.count("\n") + 1
    done = check(tmp_path / "mistakes.py", PROGRAM + "\n".join(MISTAKES) + "\n")
    noticed = {int(line.split(":")[1]) for line in done.stdout.splitlines() if ": error:" in line}
    assert noticed == {first + number for number in range(len(MISTAKES))}, done.stdout
