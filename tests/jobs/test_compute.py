"""What `run_cpu` refuses, and says of it, before anything is pickled."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from trioworkers import App, Context, testing

pytestmark = pytest.mark.trio


async def waits() -> None:
    pass


def local(factor: int) -> Callable[[int], int]:
    def scaled(number: int) -> int:
        return number * factor

    return scaled


class Unpicklable:
    def __reduce__(self) -> Any:
        raise AssertionError("nothing is pickled")


async def refusal(function: Callable[..., Any]) -> str:
    """What a job is told that gives this function."""
    app, told = App(), []

    @app.handler("q")
    async def compute(ctx: Context) -> None:
        with pytest.raises(TypeError) as raised:
            await ctx.run_cpu(function, Unpicklable())
        told.append(str(raised.value))

    async with testing.run(app) as test:
        await test.enqueue(compute.job())
        await test.drain()
        assert test.dead == []
    return told[0]


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda number: number, "not a lambda: define it at the top"),
        (partial(lambda number: number, 1), "a lambda"),
        (local(2), "not scaled, defined in another function"),
        (partial(local(2), 3), "scaled"),
        (waits, "not waits, which is async"),
    ],
)
async def test_function_that_no_other_process_can_find_is_refused(function: Callable[..., Any], words: str):
    told = await refusal(function)
    assert words in told
    assert ("top of a module" in told) is ("async" not in told)


async def test_functions_with_a_name_go_through():
    app, results = App(), []

    @app.handler("q")
    async def compute(ctx: Context) -> None:
        results.append(await ctx.run_cpu(partial(pow, 2), 5))
        results.append(await ctx.run_cpu("a b".split))

    async with testing.run(app) as test:
        await test.enqueue(compute.job())
        await test.drain()
    assert results == [32, ["a", "b"]]
