"""The start limiter: how many get through in a round, and that nobody is left standing."""

from __future__ import annotations

import random

import trio

from trioworkers.http.start_limiter import StartLimiter


async def test_no_more_than_its_size_in_a_round_and_all_in_the_end():
    start_limiter = StartLimiter(10)
    rounds: list[int] = [0]

    async def pass_through() -> None:
        await start_limiter.pass_through()
        rounds[-1] += 1

    async def count() -> None:
        while sum(rounds) < 200:
            await trio.lowlevel.checkpoint()
            rounds.append(0)

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(count)
            for _ in range(200):
                nursery.start_soon(pass_through)
    assert sum(rounds) == 200
    assert max(rounds) <= 20  # two openings may meet in what we count as a round


async def test_cancelled_tasks_hold_nobody_up():
    for seed in range(30):
        chance = random.Random(seed)
        start_limiter = StartLimiter(3)
        through = 0

        async def patient(start_limiter: StartLimiter = start_limiter) -> None:
            nonlocal through
            await start_limiter.pass_through()
            through += 1

        async def impatient(rounds: int, start_limiter: StartLimiter = start_limiter) -> None:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:

                    async def cancel() -> None:
                        for _ in range(rounds):
                            await trio.lowlevel.checkpoint()
                        scope.cancel()

                    nursery.start_soon(cancel)
                    await start_limiter.pass_through()
                    nursery.cancel_scope.cancel()

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for _ in range(40):
                    nursery.start_soon(impatient, chance.randrange(12))
                    nursery.start_soon(patient)
        assert through == 40
