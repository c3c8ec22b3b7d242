"""What `new` does: the handlers and the test that it writes."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from trioworkers.errors import ConfigurationError, WrongUsage

APP = '''"""Background jobs. `trioworkers dev {name}.py` runs them while you write; `trioworkers run {name}.py` in production."""

from trioworkers import App, Context

app = App()
app.queue("calls", concurrency=100)  # other queues run 10 jobs at once


@app.handler("default")
async def add(a: int, b: int) -> None:
    """trioworkers enqueue default add 1 2"""
    print(f"{{a}} + {{b}} = {{a + b}}")


@app.handler("calls", timeout=30)
async def announce(ctx: Context, text: str) -> None:
    """trioworkers enqueue calls announce hello"""
    async with ctx.fan_out() as fan:  # all at once; a retry sends only what failed
        fan.post("first", "https://httpbin.org/anything/first", json={{"text": text}})
        fan.post("second", "https://httpbin.org/anything/second", json={{"text": text}})


@app.handler("default")
async def count_primes(ctx: Context, below: int) -> None:
    """trioworkers enqueue default count_primes 100000"""
    found = await ctx.run_cpu(primes, below)  # in another process: it keeps nobody waiting
    ctx.log.info("%d primes below %d", found, below)
    ctx.enqueue(add.job(found, 1))  # sent together with this job's success


def primes(below: int) -> int:
    """How many primes there are below a number."""
    return sum(all(number % divisor for divisor in range(2, int(number**0.5) + 1)) for number in range(2, below))
'''

TEST = '''"""pip install pytest pytest-trio, then: pytest"""

import httpx
import pytest
from trioworkers import testing

from {name} import add, announce, app, count_primes

pytestmark = pytest.mark.trio


async def test_add(capsys):
    await add(1, 2)  # a handler is still a plain function
    assert capsys.readouterr().out == "1 + 2 = 3\\n"


async def test_announce_calls_both():
    called = []

    def answer(request):
        called.append(request.url.path)
        return httpx.Response(200)

    http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    async with testing.run(app, http=http) as test:  # no Redis, no network
        await test.enqueue(announce.job("hello"))
        await test.drain()
        assert sorted(called) == ["/anything/first", "/anything/second"]
        assert test.dead == []


async def test_count_primes_enqueues_an_addition(capsys):
    async with testing.run(app) as test:
        await test.enqueue(count_primes.job(10))
        await test.drain()
        assert test.completed == 2
    assert capsys.readouterr().out == "4 + 1 = 5\\n"
'''


_TAKEN = {
    "anyio",
    "attr",
    "attrs",
    "coredis",
    "httpx",
    "msgspec",
    "outcome",
    "pytest",
    "rich",
    "trio",
    "trioworkers",
    "click",
}


def write_new(name: str) -> None:
    """Write both files. Raises WrongUsage for the name, ConfigurationError if one is there or can't be written."""
    name = name.removesuffix(".py")
    if not name.isidentifier():
        raise WrongUsage(f"{name!r} is no name for a Python module")
    if name in sys.stdlib_module_names or name in _TAKEN:
        raise WrongUsage(f"{name}.py would hide the module {name!r} that others import: choose another name")
    files = {Path(f"{name}.py"): APP, Path(f"test_{name}.py"): TEST}
    for path in files:
        if path.exists():
            raise ConfigurationError(
                f"{path} is there already: nothing was written; for another name: trioworkers new NAME"
            )
    for path, text in files.items():
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(text.format(name=name))
        except OSError as error:
            raise ConfigurationError(f"{path}: {error.strerror}") from error
    click.echo(f"wrote {' and '.join(map(str, files))}")
    click.echo(f"  trioworkers dev {name}.py                run it; then, in another terminal:")
    click.echo("  trioworkers enqueue default add 1 2")
