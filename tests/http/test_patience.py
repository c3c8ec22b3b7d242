"""Waits that end in time, by one timer or, where nobody runs that, each by its own."""

from __future__ import annotations

import math
import socket
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
import trio
from test_pool import Peer, served
from trio.lowlevel import wait_readable, wait_writable
from trio.testing import wait_all_tasks_blocked

from trioworkers.http.patience import Patience


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """Nothing comes from it, and nothing more fits into it."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        while True:
            try:
                ours.send(bytes(65536))
            except BlockingIOError:
                break
        yield ours


@pytest.fixture(params=[True, False], ids=["kept", "by themselves"])
async def patience(request: pytest.FixtureRequest, nursery: trio.Nursery) -> AsyncIterator[Patience]:
    patience = Patience()
    if request.param:
        nursery.start_soon(patience.keep)
        await wait_all_tasks_blocked()
    yield patience
    assert patience._waits == {}


async def ended_after(
    patience: Patience, seconds: float | None, on: socket.socket, *, writes: bool = False
) -> float | None:
    """The seconds after which it was ended; None: it had its way."""
    began_at = trio.current_time()
    try:
        await patience.within(seconds, wait_writable if writes else wait_readable, on)
    except trio.TooSlowError:
        return trio.current_time() - began_at
    return None


async def test_each_wait_ends_in_its_own_time(autojump_clock: object, patience: Patience):
    pairs = [socket.socketpair() for _ in range(5)]
    found: dict[float | None, float | None] = {}

    async def wait(seconds: float | None, on: socket.socket) -> None:
        found[seconds] = await ended_after(patience, seconds, on)

    with trio.move_on_after(100):
        async with trio.open_nursery() as nursery:
            for seconds, (ours, _) in zip((5, 2, 3, None), pairs, strict=False):
                nursery.start_soon(wait, seconds, ours)
            await trio.sleep(1)
            nursery.start_soon(wait, 0.5, pairs[4][0])  # sooner than all that wait
    assert found == {0.5: 0.5, 2: 2, 3: 3, 5: 5}
    for pair in pairs:
        for end in pair:
            end.close()


async def test_waits_of_one_length_end_one_after_the_other(autojump_clock: object, patience: Patience):
    pairs = [socket.socketpair() for _ in range(20)]
    found: list[float | None] = []

    async def wait(after: int, on: socket.socket) -> None:
        await trio.sleep(after)
        found.append(await ended_after(patience, 5, on))

    async with trio.open_nursery() as nursery:
        for number, (ours, _) in enumerate(pairs):
            nursery.start_soon(wait, number, ours)
        await trio.sleep(10.5)
        pairs[15][1].send(b"!")  # has its way when it begins
    assert sorted(found, key=str) == [5.0] * 19 + [None]
    for pair in pairs:
        for end in pair:
            end.close()


async def test_timer_leaves_those_alone_whose_time_has_not_come(autojump_clock: object, nursery: trio.Nursery):
    patience = Patience()
    nursery.start_soon(patience.keep)
    await wait_all_tasks_blocked()
    first, second = socket.socketpair()
    with first, second:
        async with trio.open_nursery() as waits:
            waits.start_soon(ended_after, patience, 5, first)
            await trio.sleep(3)
            waits.start_soon(ended_after, patience, 5, second)
            await trio.sleep(3)
            assert [one.on for one in patience._waits[5]] == [second]
    assert patience._waits == {}


async def test_who_writes_too_long_disturbs_nobody_who_reads(
    autojump_clock: object, patience: Patience, silent: socket.socket
):
    found: list[float | None] = []

    async def read(seconds: float | None) -> None:
        found.append(await ended_after(patience, seconds, silent))

    with trio.move_on_after(3):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, None)
            await wait_all_tasks_blocked()
            assert await ended_after(patience, 1, silent, writes=True) == 1
            await trio.sleep_forever()
    assert found == []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read, 4)
        await wait_all_tasks_blocked()
        assert await ended_after(patience, 1, silent, writes=True) == 1
    assert found == [4]


async def test_closed_is_closed(patience: Patience, nursery: trio.Nursery, silent: socket.socket):
    async def close() -> None:
        await wait_all_tasks_blocked()
        trio.lowlevel.notify_closing(silent)
        silent.close()

    nursery.start_soon(close)
    with pytest.raises(trio.ClosedResourceError):
        await patience.within(60, wait_readable, silent)


async def test_waits_outlive_their_timer(autojump_clock: object, silent: socket.socket):
    patience = Patience()
    found: list[float | None] = []

    async def wait(seconds: float) -> None:
        found.append(await ended_after(patience, seconds, silent))

    async with trio.open_nursery() as nursery, trio.open_nursery() as timer:
        timer.start_soon(patience.keep)
        await wait_all_tasks_blocked()
        nursery.start_soon(wait, 5)
        await trio.sleep(2)
        timer.cancel_scope.cancel()
    assert found == [5]
    assert await ended_after(patience, 1, silent) == 1  # begun when it is over
    assert patience._waits == {}


async def test_no_number_ends_only_its_own_wait(autojump_clock: object, patience: Patience, silent: socket.socket):
    with pytest.raises(ValueError, match=r"(?i)nan"):
        await patience.within(math.nan, wait_readable, silent)
    assert await ended_after(patience, -1, silent) == 0
    assert await ended_after(patience, 1, silent) == 1


async def test_timer_sleeps_while_nobody_waits(autojump_clock: object, nursery: trio.Nursery, silent: socket.socket):
    patience = Patience()
    nursery.start_soon(patience.keep)
    await wait_all_tasks_blocked()
    with trio.move_on_after(1):
        await patience.within(30, wait_readable, silent)
    await trio.sleep(60)
    assert patience._looks_at == math.inf


async def test_peer_that_takes_no_more_is_a_write_timeout(patient_clock: object):
    async def deaf(peer: Peer, stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async with served(deaf, timeout=1) as (_, url, client):
        with pytest.raises(httpx.WriteTimeout, match="1 s"):
            await client.post(url, content=bytes(50_000_000))
