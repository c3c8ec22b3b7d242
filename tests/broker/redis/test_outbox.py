"""Concurrent sends share round trips: order, errors of each caller, cancellation at every moment."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import pytest
import trio
import trio.testing
from servers import Server

from trioworkers import Client, Job, Refused, Unavailable
from trioworkers.broker.redis.outbox import Outbox
from trioworkers.errors import BrokerError
from trioworkers.sending import CALL_BYTES
from trioworkers.wire.error_replies import refusal


class Redis:
    """Takes what is delivered, a second of virtual time for each round trip."""

    def __init__(self) -> None:
        self.trips: list[list[bytes]] = []
        self.problems: dict[bytes, str] = {}
        self.away = False

    async def deliver(self, works: Sequence[bytes]) -> Mapping[int, BrokerError]:
        self.trips.append(list(works))
        with trio.CancelScope(shield=True):
            await trio.sleep(1)
        if self.away:
            raise Unavailable("away")
        return {place: refusal(self.problems[work]) for place, work in enumerate(works) if work in self.problems}

    @property
    def received(self) -> list[bytes]:
        return [work for trip in self.trips for work in trip]


@pytest.fixture
def redis() -> Redis:
    return Redis()


@pytest.fixture
def outbox(redis: Redis) -> Outbox:
    return Outbox(redis.deliver)


async def send_in_turn(nursery: trio.Nursery, outbox: Outbox, *works: bytes) -> None:
    for work in works:
        nursery.start_soon(outbox.send, work)
        await trio.testing.wait_all_tasks_blocked()


async def test_lone_send_goes_at_once(autojump_clock: trio.testing.MockClock, redis: Redis, outbox: Outbox):
    await outbox.send(b"a")
    assert (redis.trips, trio.current_time()) == ([[b"a"]], 1)


async def test_what_comes_meanwhile_goes_together_and_in_order(
    autojump_clock: trio.testing.MockClock, redis: Redis, outbox: Outbox
):
    async with trio.open_nursery() as nursery:
        await send_in_turn(nursery, outbox, b"a", b"b", b"c", b"d")
    assert redis.trips == [[b"a"], [b"b", b"c", b"d"]]


async def test_large_sends_go_apart(autojump_clock: trio.testing.MockClock, redis: Redis, outbox: Outbox):
    large = b"x" * (CALL_BYTES - 1)
    async with trio.open_nursery() as nursery:
        await send_in_turn(nursery, outbox, b"a", b"b", large, b"c")
    assert redis.trips == [[b"a"], [b"b", large], [b"c"]]


async def test_each_caller_gets_its_own_error(autojump_clock: trio.testing.MockClock, redis: Redis, outbox: Outbox):
    redis.problems = {b"b": "WRONGTYPE not a list", b"d": "OOM full"}
    ended: dict[bytes, str] = {}

    async def send(work: bytes) -> None:
        try:
            await outbox.send(work)
        except (Refused, Unavailable) as error:
            ended[work] = f"{type(error).__name__}: {error}"
        else:
            ended[work] = "sent"

    async with trio.open_nursery() as nursery:
        for work in (b"a", b"b", b"c", b"d"):
            nursery.start_soon(send, work)
            await trio.testing.wait_all_tasks_blocked()
    assert ended == {b"a": "sent", b"b": "Refused: WRONGTYPE not a list", b"c": "sent", b"d": "CannotServe: OOM full"}


async def test_outage_is_told_to_each_caller_by_an_error_of_its_own(
    autojump_clock: trio.testing.MockClock, redis: Redis, outbox: Outbox
):
    redis.away = True
    errors: list[Unavailable] = []

    async def send() -> None:
        with pytest.raises(Unavailable) as caught:
            await outbox.send(b"a")
        errors.append(caught.value)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(send)
    assert len({id(error) for error in errors}) == 5
    redis.away = False
    await outbox.send(b"later")


async def test_cancelled_while_it_waits_nothing_of_it_is_sent(
    autojump_clock: trio.testing.MockClock, redis: Redis, outbox: Outbox
):
    async with trio.open_nursery() as nursery:
        await send_in_turn(nursery, outbox, b"a")
        with trio.move_on_after(0.5) as scope:
            await outbox.send(b"b")
        assert scope.cancelled_caught
        await send_in_turn(nursery, outbox, b"c")
    assert redis.trips == [[b"a"], [b"c"]]


@pytest.mark.parametrize("carrier", [True, False])
async def test_cancelled_under_way_it_ends_with_the_reply(
    autojump_clock: trio.testing.MockClock, redis: Redis, outbox: Outbox, carrier: bool
):
    async def cancelled(work: bytes) -> None:
        with trio.move_on_at(1.5):
            await outbox.send(work)
            await trio.lowlevel.checkpoint()
        assert trio.current_time() == 2

    async with trio.open_nursery() as nursery:
        await send_in_turn(nursery, outbox, b"a", *([] if carrier else [b"b"]))
        nursery.start_soon(cancelled, b"c")
        await trio.testing.wait_all_tasks_blocked()
        await send_in_turn(nursery, outbox, b"d")
    assert redis.trips == [[b"a"], [*([] if carrier else [b"b"]), b"c", b"d"]]


@pytest.mark.parametrize("seed", range(20))
async def test_cancelled_at_any_moment_nobody_is_left_behind(
    autojump_clock: trio.testing.MockClock, redis: Redis, outbox: Outbox, seed: int
):
    chance = random.Random(seed)
    sent: list[bytes] = []

    async def send(work: bytes) -> None:
        await trio.sleep(chance.randrange(6))
        with trio.move_on_after(chance.choice([0, 1, 2, 100])):  # whole seconds: turns and cancellations meet
            await outbox.send(work)
            sent.append(work)

    async with trio.open_nursery() as nursery:
        for number in range(40):
            nursery.start_soon(send, b"%d" % number)
    assert len(set(redis.received)) == len(redis.received)
    assert set(sent) <= set(redis.received)
    await outbox.send(b"the last one")


async def test_call_that_fails_leaves_those_beside_it_alone(redis_url: str, shared_server: Server):
    shared_server.command("SET", "queue:broken", "no list")
    async with Client(redis_url) as client:
        refused: list[int] = []

        async def enqueue(number: int) -> None:
            try:
                await client.enqueue(Job("broken" if number % 3 == 1 else "fine", "J", [number]))
            except Refused:
                refused.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(30):
                nursery.start_soon(enqueue, number)
    assert sorted(refused) == [*range(1, 30, 3)]
    assert shared_server.command("LLEN", "queue:fine") == 20
