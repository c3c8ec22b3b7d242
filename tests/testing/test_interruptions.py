"""`for_each_interruption` finds what a stop at some await leaves half done, and tells where."""

from __future__ import annotations

from typing import Any, Literal

import httpx
import pytest
import trio

from trioworkers import App, Context, testing

How = Literal["stop", "crash"]


class Bank:
    """Money that is moved in two steps."""

    def __init__(self, *, careful: bool) -> None:
        self.app = app = App()
        self.taken: set[str] = set()
        self.given: list[str] = []

        @app.handler("q", "Move")
        async def move(ctx: Context, key: str) -> None:
            await trio.sleep(1)
            if key in self.taken and not careful:
                return
            self.taken.add(key)
            await trio.sleep(1)
            if key not in self.given:
                self.given.append(key)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep, 1)

        self.move = move

    async def scenario(self, test: testing.RunningApp) -> None:
        self.taken.clear()
        self.given.clear()
        await test.enqueue(self.move.job("a"))
        await test.drain()
        assert self.given == ["a"], "taken, and never given"
        assert test.dead == []


@pytest.mark.parametrize("how", ["stop", "crash"])
async def test_handler_that_leaves_things_right_is_stopped_at_each_of_its_awaits(autojump_clock: Any, how: How):
    bank = Bank(careful=True)
    count = await testing.for_each_interruption(bank.app, bank.scenario, how=how)
    assert 4 <= count <= 8


@pytest.mark.parametrize("how", ["stop", "crash"])
async def test_handler_that_leaves_something_half_done_is_found_and_the_place_is_told(autojump_clock: Any, how: How):
    bank = Bank(careful=False)
    with pytest.raises(AssertionError, match="never given") as caught:
        await testing.for_each_interruption(bank.app, bank.scenario, how=how)
    [note] = caught.value.__notes__
    assert (
        f"the handler was {'stopped' if how == 'stop' else 'killed'} at its await number 2, test_interruptions.py:"
        in note
    )
    assert note.endswith("in move")


async def test_each_round_interrupts_one_attempt_and_no_more(autojump_clock: Any):
    app, runs = App(), []

    @app.handler("q")
    async def naps(n: int) -> None:
        runs.append(n)
        await trio.sleep(1)

    rounds: list[list[int]] = []

    async def scenario(test: testing.RunningApp) -> None:
        runs.clear()
        await test.enqueue(naps.job(1), naps.job(2))
        await test.drain()
        rounds.append(sorted(runs))
        assert [ran.how for ran in test.ran].count("succeeded") == 2

    assert await testing.for_each_interruption(app, scenario) == len(rounds) - 1
    assert rounds[-1] == [1, 2]
    assert all(len(each) == 3 for each in rounds[:-1])


async def test_only_the_handler_that_is_meant_is_interrupted(autojump_clock: Any):
    app, runs = App(), []

    @app.handler("q")
    async def first(ctx: Context) -> None:
        runs.append("first")
        await trio.sleep(1)
        ctx.enqueue(second.job())

    @app.handler("q")
    async def second() -> None:
        runs.append("second")
        await trio.sleep(1)

    seen: list[list[str]] = []

    async def scenario(test: testing.RunningApp) -> None:
        runs.clear()
        await test.enqueue(first.job())
        await test.drain()
        seen.append(list(runs))

    for which in (second, "second"):
        seen.clear()
        assert await testing.for_each_interruption(app, scenario, handler=which) >= 1
        assert {tuple(each) for each in seen} == {("first", "second", "second"), ("first", "second")}


async def test_handler_that_awaits_nothing_is_run_once(autojump_clock: Any):
    app = App()

    @app.handler("q")
    async def plain() -> None: ...

    rounds = []

    async def scenario(test: testing.RunningApp) -> None:
        rounds.append(1)
        await test.enqueue(plain.job())
        await test.drain()

    assert await testing.for_each_interruption(app, scenario) == 0
    assert rounds == [1]


async def test_fan_out_is_interrupted_and_sends_nothing_twice_that_was_recorded(autojump_clock: Any):
    app = App()

    @app.handler("q")
    async def calls(ctx: Context) -> None:
        async with ctx.fan_out() as fan:
            for n in range(3):
                fan.post(f"call{n}", f"https://x.example/{n}")

    posted: list[str] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        await trio.sleep(1)
        posted.append(request.headers["Idempotency-Key"])
        return httpx.Response(200)

    async def scenario(test: testing.RunningApp) -> None:
        posted.clear()
        await test.enqueue(calls.job())
        await test.drain()
        assert len(set(posted)) == 3  # the keys are the same in every attempt

    def http() -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(answer))

    assert await testing.for_each_interruption(app, scenario, http=http) >= 3


async def test_endless_handler_is_told_of(autojump_clock: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("trioworkers.testing.interruptions.MOST_AWAITS", 5)
    app = App()

    @app.handler("q")
    async def many() -> None:
        for _ in range(20):
            await trio.sleep(1)

    async def scenario(test: testing.RunningApp) -> None:
        await test.enqueue(many.job())
        await test.drain()

    with pytest.raises(AssertionError, match="no end"):
        await testing.for_each_interruption(app, scenario)
