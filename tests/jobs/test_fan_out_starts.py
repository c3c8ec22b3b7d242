"""When the calls of a fan-out start: the first ones with it, and never too many of all jobs in one round of the event loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
import trio

from trioworkers import Http
from trioworkers.http.shared_client import FAN_OUTS_IN_A_ROUND, STARTED_IN_A_ROUND, SharedClient
from trioworkers.jobs.fan_out import CALLS_WITH_IT, open_fan_out
from trioworkers.jobs.progress import Progress

URL = "http://127.0.0.1:1/"
OF_A_ROUND = FAN_OUTS_IN_A_ROUND * CALLS_WITH_IT + STARTED_IN_A_ROUND


class Client(SharedClient):
    """The shared client, which answers at once."""

    def __init__(self) -> None:
        super().__init__(Http())
        self.had_turn: dict[str, bool] = {}
        self.rounds = [0]
        self._sent_by = httpx.MockTransport(self._answer)

    async def exchange(self, method: str, url: Any, headers: Any, options: Any, *hear: Any, has_turn: bool = False):
        self.had_turn[headers["Idempotency-Key"]] = has_turn
        return await super().exchange(method, url, headers, options, *hear, has_turn=has_turn)

    def _answer(self, _: httpx.Request) -> httpx.Response:
        self.rounds[-1] += 1
        return httpx.Response(200)

    def fan_out(self, jid: str = "JID", **options: Any):
        return open_fan_out(self, jid, Progress(), **options)

    async def next_round(self) -> None:
        """Have so many fan-outs begin that another round has to be made for them."""
        for number in range(FAN_OUTS_IN_A_ROUND + 1):
            async with self.fan_out(f"other {number}"):
                pass


def names(count: int) -> list[str]:
    return [f"call {number}" for number in range(count)]


async def test_first_calls_start_with_their_fan_out_and_the_others_wait_for_a_turn():
    client = Client()
    async with client.fan_out() as fan:
        for name in names(CALLS_WITH_IT + 2):
            fan.post(name, URL)
    assert [client.had_turn[f"JID:{name}"] for name in names(CALLS_WITH_IT + 2)] == [True] * CALLS_WITH_IT + [False] * 2


async def test_what_is_called_after_the_round_of_its_fan_out_waits_for_a_turn():
    client = Client()
    async with client.fan_out() as fan:
        fan.post("at once", URL)
        await client.next_round()
        fan.post("later", URL)
    assert client.had_turn == {"JID:at once": True, "JID:later": False}


async def test_calls_that_their_own_limit_lets_start_wait_for_a_turn():
    client = Client()
    async with client.fan_out(limit=2) as fan:
        for name in names(3):
            fan.post(name, URL)
    assert list(client.had_turn.values()) == [False] * 3


async def begin_together(client: Client, jobs: int, calls: int, begin: Callable[[], Any]) -> None:
    """So many jobs; `begin` is awaited between the beginning of a fan-out and its calls."""

    async def job(jid: str) -> None:
        async with client.fan_out(jid) as fan:
            await begin()
            for name in names(calls):
                fan.post(name, URL)

    async def count() -> None:
        while sum(client.rounds) < jobs * calls:
            await trio.lowlevel.checkpoint()
            client.rounds.append(0)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        for number in range(jobs):
            nursery.start_soon(job, f"{number}")


@pytest.mark.parametrize("calls", [1, CALLS_WITH_IT, CALLS_WITH_IT + 3])
@pytest.mark.parametrize("wait_for_each_other", [False, True])
async def test_jobs_that_begin_together_start_no_more_calls_in_a_round_than_there_is_room_for(
    calls: int, wait_for_each_other: bool
):
    client, jobs, all_there, there = Client(), 20 * FAN_OUTS_IN_A_ROUND, trio.Event(), 0

    async def begin() -> None:
        nonlocal there
        there += 1
        if there == jobs:
            all_there.set()
        if wait_for_each_other:
            await all_there.wait()

    with trio.fail_after(60):
        await begin_together(client, jobs, calls, begin)
    assert sum(client.rounds) == jobs * calls
    assert max(client.rounds) <= 2 * OF_A_ROUND  # two openings may meet in what we count as a round
