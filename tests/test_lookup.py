"""Names are looked up without the jobs' threads, one lookup for a host, and what was good is remembered."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator

import pytest
import trio
import trio.testing
from servers import wait_for

from trioworkers import lookup
from trioworkers.lookup import addresses_of, remember


class Resolver:
    """Stands in for the system's; holds its answers back while `held`."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer: list[str] | OSError = ["192.0.2.1"]
        self.free = threading.Event()
        self.free.set()

    def resolve(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        self.free.wait(30)
        if isinstance(self.answer, OSError):
            raise self.answer
        return self.answer


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    resolver = Resolver()
    monkeypatch.setattr(lookup, "_resolve", resolver.resolve)
    monkeypatch.setattr(lookup, "_remembered", {})
    yield resolver
    resolver.free.set()
    wait_for(lambda: not lookup._running, "no lookup is under way that the next test would take for its own")


async def test_address_is_not_looked_up(resolver: Resolver):
    assert [await addresses_of(host, 1, 1) for host in ("127.0.0.1", "::1", "fe80::1%eth0")] == [
        ["127.0.0.1"],
        ["::1"],
        ["fe80::1%eth0"],
    ]
    assert resolver.asked == []


async def test_threads_that_jobs_have_filled_hold_nothing_up(resolver: Resolver):
    done = threading.Event()
    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(trio.to_thread.run_sync, done.wait)
        try:
            await trio.testing.wait_all_tasks_blocked()
            with trio.fail_after(60):
                assert await addresses_of("redis", 6379, 10) == ["192.0.2.1"]
        finally:
            done.set()


async def test_one_lookup_serves_all_who_wait_for_the_host(resolver: Resolver):
    resolver.free.clear()
    found: list[list[str]] = []

    async def look(host: str) -> None:
        found.append(await addresses_of(host, 1, 30))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(look, "a")
        nursery.start_soon(look, "b")
        await trio.testing.wait_all_tasks_blocked()
        resolver.free.set()
    assert (sorted(resolver.asked), len(found)) == (["a", "b"], 21)


async def test_slow_name_server_costs_the_patience_and_one_thread(resolver: Resolver):
    resolver.free.clear()
    for _ in range(3):
        with pytest.raises(TimeoutError, match="no name server has answered"):
            await addresses_of("redis", 1, 0.05)
    assert resolver.asked == ["redis"]


@pytest.mark.parametrize("trouble", ["silent", "failing"])
async def test_last_good_address_is_taken_while_nobody_can_be_asked(resolver: Resolver, trouble: str):
    remember("redis", "192.0.2.9")
    if trouble == "silent":
        resolver.free.clear()
    resolver.answer = socket.gaierror(socket.EAI_AGAIN, "try again")
    assert await addresses_of("redis", 1, 0.1) == ["192.0.2.9"]


async def test_new_address_is_taken_when_there_is_one(resolver: Resolver):
    """A failover by DNS: what was good yesterday is only for when nobody knows better."""
    remember("redis", "192.0.2.9")
    assert await addresses_of("redis", 1, 30) == ["192.0.2.1"]


async def test_name_that_does_not_exist_any_more_is_an_answer(resolver: Resolver):
    remember("redis", "192.0.2.9")
    resolver.answer = socket.gaierror(socket.EAI_NONAME, "unknown")
    with pytest.raises(socket.gaierror):
        await addresses_of("redis", 1, 30)


@pytest.mark.parametrize("host", ["a..b", "x" * 300, "\u00fc" * 100])
async def test_name_that_can_not_be_is_unknown(host: str):
    with pytest.raises(socket.gaierror):
        await addresses_of(host, 1, 30)


async def test_cancelled_wait_leaves_the_lookup_to_the_others(resolver: Resolver):
    resolver.free.clear()
    async with trio.open_nursery() as nursery:
        with trio.move_on_after(0) as scope:
            await addresses_of("a", 1, 30)
        assert scope.cancelled_caught

        async def look() -> None:
            assert await addresses_of("a", 1, 30) == ["192.0.2.1"]

        nursery.start_soon(look)
        await trio.testing.wait_all_tasks_blocked()
        resolver.free.set()
    assert resolver.asked == ["a"]


async def test_what_is_remembered_has_a_bound(resolver: Resolver, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lookup, "MAX_REMEMBERED", 3)
    for n in range(10):
        remember(f"h{n}", "192.0.2.1")
    assert len(lookup._remembered) <= 3


def test_lookups_are_shared_by_several_loops(resolver: Resolver):
    """The watchdog renews the lease on a loop of its own."""
    resolver.free.clear()
    found: list[list[str]] = []

    async def look() -> None:
        found.append(await addresses_of("redis", 1, 30))

    threads = [threading.Thread(target=trio.run, args=(look,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    waiting: Callable[[], int] = lambda: len(getattr(lookup._running.get(("redis", 1)), "_waiting", []))  # noqa: E731
    while waiting() < 3:
        pass
    resolver.free.set()
    for thread in threads:
        thread.join()
    assert (resolver.asked, found) == (["redis"], [["192.0.2.1"]] * 3)
