"""Large payloads are fetched without being shown to Lua: by the same rules, and nothing is lost where it can't be."""

from __future__ import annotations

from collections.abc import AsyncIterator

import attrs
import pytest
import trio
from servers import Server

from trioworkers import Superseded, Unavailable
from trioworkers.broker import fetch_large
from trioworkers.broker.contract import LARGE_BYTES, Holder
from trioworkers.broker.fetch_large import AT_ONCE_BYTES, SKIPPED
from trioworkers.broker.intake import RedisIntake, open_intake
from trioworkers.broker.moves import RedisBroker
from trioworkers.broker.redis import epoch
from trioworkers.broker.redis.connection import Link, connect
from trioworkers.wire.keys import Keys

SIZE = 50_000
QUEUE, LIST, LEASE, MARK = "queue:q", "queue:q:me:inprogress", "tw:lease:me", "tw:fetched:me q"


@attrs.define
class Bench:
    """A broker whose lease is sure, an intake, and the server that both are at."""

    broker: RedisBroker
    intake: RedisIntake
    server: Server

    def push(self, *payloads: bytes) -> None:
        self.server.command("LPUSH", QUEUE, *payloads)

    def list(self, key: str) -> list[bytes]:
        """Oldest first."""
        return [each.encode() for each in self.server.command("LRANGE", key, 0, -1)][::-1]

    async def warm_up(self) -> list[bytes]:
        """The first fetch shows how large they are."""
        first = payloads(4, mark="first")
        self.push(*first)
        assert (await self.intake.fetch(4)).payloads == first
        return first


@pytest.fixture
async def bench(redis_url: str, shared_server: Server) -> AsyncIterator[Bench]:
    async with connect(redis_url, Link(redis_url)) as connection:
        broker = RedisBroker(connection, Keys(), Holder("me", "lease", 30_000))
        shared_server.command("SET", LEASE, "lease", "PX", 30_000)
        broker.holder.renewed_at = trio.current_time()
        async with open_intake(broker, redis_url, 1.0, "q") as intake:
            yield Bench(broker, intake, shared_server)


def payloads(number: int, size: int = SIZE, mark: str = "x") -> list[bytes]:
    return [b'{"jid":"%s%08d","args":"%s"}' % (mark.encode(), each, b"x" * size) for each in range(number)]


def calls(server: Server, command: str) -> int:
    found = [
        line for line in server.command("INFO", "commandstats").splitlines() if line.startswith(f"cmdstat_{command}:")
    ]
    return int(found[0].split("calls=")[1].split(",")[0]) if found else 0


async def test_they_come_in_their_order_and_lie_in_our_list(bench: Bench):
    first, rest = await bench.warm_up(), payloads(40)
    bench.push(*rest)
    reads = calls(bench.server, "rpop")
    got: list[bytes] = []
    while len(got) < len(rest):
        fetched = await bench.intake.fetch(100)
        assert 0 < len(fetched.payloads) <= AT_ONCE_BYTES // SIZE
        assert not fetched.lease_gone
        assert not fetched.suspects
        got += fetched.payloads
    assert got == rest
    assert (bench.list(LIST), bench.list(QUEUE)) == (first + rest, [])
    assert calls(bench.server, "rpop") == reads
    assert bench.server.command("EXISTS", MARK) == 0
    assert not (await bench.intake.fetch(100)).payloads


async def test_no_more_than_there_are_slots(bench: Bench):
    await bench.warm_up()
    rest = payloads(10)
    bench.push(*rest)
    assert (await bench.intake.fetch(3)).payloads == rest[:3]
    assert bench.list(QUEUE) == rest[3:]


async def test_suspects_are_told_of(bench: Bench):
    await bench.warm_up()
    bench.push(*payloads(4))
    bench.server.command("HSET", "tw:crashes", "some jid", 1)
    assert (await bench.intake.fetch(4)).suspects


async def test_with_one_that_is_to_be_moved_alone_all_go_back_and_come_as_always(bench: Bench):
    first = await bench.warm_up()
    before, after = payloads(3, mark="a"), payloads(3, mark="b")
    (alone,) = payloads(1, LARGE_BYTES, "large")
    bench.push(*before, alone, *after)
    fetched = [(await bench.intake.fetch(10)).payloads for _ in range(3)]
    assert fetched == [before, [alone], after]
    assert (bench.list(LIST), bench.list(QUEUE)) == ([*first, *before, alone, *after], [])


async def test_one_that_nobody_may_read_is_buried_unread(bench: Bench):
    await bench.warm_up()
    (huge,) = payloads(1, bench.broker.guard.huge_bytes, "huge")
    rest = payloads(3)
    bench.push(rest[0], huge, *rest[1:])
    got = [payload for _ in range(3) for payload in (await bench.intake.fetch(10)).payloads]
    assert got == rest
    assert bench.server.command("ZRANGE", "dead", 0, -1) == [huge.decode()]


@pytest.mark.parametrize("list_is", ["there", "gone"])
async def test_nothing_is_taken_for_somebody_else(bench: Bench, list_is: str):
    first, rest = await bench.warm_up(), payloads(6)
    bench.push(*rest)
    bench.server.command("SET", LEASE, "of somebody else")
    if list_is == "gone":
        bench.server.command("DEL", LIST)
    with pytest.raises(Superseded):
        await bench.intake.fetch(6)
    assert (bench.list(LIST), bench.list(QUEUE)) == ([] if list_is == "gone" else first, rest)


async def test_a_lease_that_is_gone_is_taken_anew_and_told_of(bench: Bench):
    await bench.warm_up()
    rest = payloads(6)
    bench.push(*rest)
    bench.server.command("DEL", LEASE)
    fetched = await bench.intake.fetch(6)
    assert (fetched.payloads, bool(fetched.lease_gone)) == (rest, True)


async def test_when_the_lease_ends_before_they_are_read_they_are_left_for_the_audit(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    """Others may have been at the list: what lies at its head need not be what we moved."""
    first, rest = await bench.warm_up(), payloads(6)
    bench.push(*rest)
    connection = bench.intake._connection
    execute_all = connection.execute_all

    async def later(*args: object) -> object:
        bench.server.command("DEL", MARK)
        return await execute_all(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(connection, "execute_all", later)
    with pytest.raises(Unavailable, match="lease ended"):
        await bench.intake.fetch(6)
    assert (bench.list(LIST), bench.list(QUEUE)) == (first + rest, [])
    listed = await bench.broker.audit("q", len(first), 500, first)
    assert listed is not None
    assert sorted(listed.payloads) == sorted(first + rest)


async def test_the_mark_ends_with_the_lease(bench: Bench):
    """However soon that is: else it would vouch for a list that others have taken."""
    await bench.warm_up()
    bench.push(*payloads(1, LARGE_BYTES, "large"), *payloads(3))  # too much: they are put back, and the mark stays
    bench.server.command("PEXPIRE", LEASE, 15_000)  # of thirty
    await bench.intake.fetch(4)
    assert 0 < bench.server.command("PTTL", MARK) <= 15_000


async def test_a_cancellation_between_moving_and_reading_brings_them_all_the_same(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    """Else each stop would leave some behind for the audit."""
    await bench.warm_up()
    rest = payloads(6)
    bench.push(*rest)
    connection = bench.intake._connection
    execute_all = connection.execute_all
    got: list[bytes] = []
    with trio.CancelScope() as scope:

        async def later(*args: object) -> object:
            scope.cancel()
            return await execute_all(*args)  # type: ignore[arg-type]

        monkeypatch.setattr(connection, "execute_all", later)
        got += (await bench.intake.fetch(6)).payloads
    assert got == rest


@pytest.mark.parametrize("what", ["-client|reply", "-multi", "-memory|usage", "-lmove"])
async def test_a_user_who_may_not_do_so_fetches_as_always(bench: Bench, what: str):
    await bench.warm_up()
    bench.server.command("ACL", "SETUSER", "default", what)
    try:
        for number in range(3):
            rest = payloads(6, mark=str(number))
            bench.push(*rest)
            assert (await bench.intake.fetch(6)).payloads == rest
        assert bench.list(QUEUE) == []
    finally:
        bench.server.command("ACL", "SETUSER", "default", "+@all")


async def test_a_redis_that_has_refused_it_once_is_asked_again_later(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fetch_large, "SKIPPED", 0)
    monkeypatch.setattr(epoch, "ASK_AGAIN_S", 0.1)
    await bench.warm_up()

    async def moved_by_commands() -> bool:
        before, rest = calls(bench.server, "lmove"), payloads(6)
        bench.push(*rest)
        assert (await bench.intake.fetch(6)).payloads == rest
        return calls(bench.server, "lmove") > before

    bench.server.command("ACL", "SETUSER", "default", "-multi")
    try:
        assert not await moved_by_commands()
    finally:
        bench.server.command("ACL", "SETUSER", "default", "+@all")
    with trio.fail_after(60):
        while not await moved_by_commands():
            await trio.sleep(0.01)


async def test_a_mark_of_an_earlier_life_is_none_of_ours(bench: Bench):
    """Its number may be the same; nothing is done now, and so it stays there."""
    first = await bench.warm_up()
    rest = payloads(6)
    bench.push(*rest)
    bench.server.command("SET", MARK, "1 3 0 4")
    bench.server.command("CONFIG", "SET", "maxmemory", "1")
    try:
        assert (await bench.intake.fetch(6)).payloads == rest
    finally:
        bench.server.command("CONFIG", "SET", "maxmemory", "0")
    assert bench.list(LIST) == first + rest


async def test_a_full_redis_lets_us_fetch(bench: Bench):
    await bench.warm_up()
    rest = payloads(6)
    bench.push(*rest)
    bench.server.command("CONFIG", "SET", "maxmemory", "1")
    try:
        assert (await bench.intake.fetch(6)).payloads == rest
    finally:
        bench.server.command("CONFIG", "SET", "maxmemory", "0")


@pytest.mark.parametrize("there", [("SET", MARK, "9 9 9"), ("LPUSH", MARK, "x")])
async def test_what_somebody_has_written_in_its_place_is_written_over(bench: Bench, there: tuple[str, ...]):
    await bench.warm_up()
    rest = payloads(6)
    bench.push(*rest)
    bench.server.command(*there)
    assert (await bench.intake.fetch(6)).payloads == rest


async def test_what_redis_has_forgotten_it_is_told_again(bench: Bench):
    await bench.warm_up()
    for number in range(2):
        rest = payloads(6, mark=str(number))
        bench.push(*rest)
        bench.server.command("SCRIPT", "FLUSH")
        assert (await bench.intake.fetch(6)).payloads == rest


async def test_after_one_that_weighed_too_much_they_come_as_always_for_a_while(bench: Bench):
    await bench.warm_up()
    bench.push(*payloads(3), *payloads(1, LARGE_BYTES, "large"))
    moves = calls(bench.server, "lmove")
    await bench.intake.fetch(4)
    assert calls(bench.server, "lmove") > moves
    moves = calls(bench.server, "lmove")
    for number in range(SKIPPED // 10):
        bench.push(*payloads(4, mark=str(number)))
        await bench.intake.fetch(4)
    assert calls(bench.server, "lmove") == moves


async def test_small_ones_come_as_always(bench: Bench):
    bench.push(*payloads(8, 300))
    moves = calls(bench.server, "lmove")
    for _ in range(4):
        assert len((await bench.intake.fetch(2)).payloads) == 2
    assert calls(bench.server, "lmove") == moves
