"""One fetch for all queues of a capsule: what it takes, in which shares, and what it does on a bad day; and how it hears of jobs."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from servers import Server

from trioworkers import FleetLimit
from trioworkers.broker.capsule_intake import RedisCapsuleIntake, open_capsule_intake
from trioworkers.broker.contract import LARGE_BYTES, FetchedTogether, Holder, LeaseGone
from trioworkers.broker.moves import RedisBroker
from trioworkers.broker.redis.connection import connect
from trioworkers.broker.redis.link import Link
from trioworkers.broker.redis.opening import Socket
from trioworkers.errors import Superseded
from trioworkers.settings import Settings
from trioworkers.size_guard import SizeGuard
from trioworkers.wire.capsule import Capsule
from trioworkers.wire.keys import Keys
from trioworkers.wire.limit_spec import queue_limit_name

LONG_S = 3600.0


@asynccontextmanager
async def opened(
    url: str,
    queues: Mapping[str, int] | Sequence[str],
    *,
    guard: SizeGuard | None = None,
    limits: Mapping[str, FleetLimit] | None = None,
) -> AsyncIterator[RedisCapsuleIntake]:
    weights = dict(queues) if isinstance(queues, Mapping) else dict.fromkeys(queues, 1)
    capsule = Capsule("io", 10, weights, strict=not isinstance(queues, Mapping))
    async with connect(url, Link(url)) as connection:
        broker = RedisBroker(connection, Keys(), Holder("w", "ours", 30_000), guard=guard)
        under = {queue: (queue_limit_name(each.name), each.spec) for queue, each in (limits or {}).items()}
        async with open_capsule_intake(dict.fromkeys(weights, broker), url, LONG_S, capsule, under) as intake:
            yield intake


def never() -> bool:
    """There is no slot for what is told of."""
    return False


def always() -> bool:
    """There is a slot for it."""
    return True


def counts(fetched: FetchedTogether) -> dict[str, int]:
    return {queue: len(payloads) for queue, payloads in fetched.payloads.items()}


def push(server: Server, queue: str, count: int, size: int = 1) -> None:
    server.command("LPUSH", f"queue:{queue}", *[f"{queue}{number}".ljust(size, ".") for number in range(count)])


def in_progress(server: Server, queue: str) -> object:
    return server.command("LRANGE", f"queue:{queue}:w:inprogress", 0, -1)


async def test_one_call_moves_from_each_in_its_order(redis_url: str, shared_server: Server):
    for queue in ("a", "b", "c"):
        push(shared_server, queue, 3)
    async with opened(redis_url, {"a": 2, "b": 1, "c": 1}) as intake:
        fetched = await intake.fetch(4, ["a", "b", "c"])
        assert fetched.payloads == {"a": [b"a0", b"a1"], "b": [b"b0"], "c": [b"c0"]}
        assert (in_progress(shared_server, "a"), in_progress(shared_server, "b")) == (["a1", "a0"], ["b0"])
        assert counts(await intake.fetch(100, ["a", "b", "c"])) == {"a": 1, "b": 2, "c": 2}
        assert await intake.lengths() == [3, 3, 3]
        assert (await intake.fetch(100, ["a", "b", "c"])).payloads == {}


async def test_strict_order_takes_from_the_first_that_has_something(redis_url: str, shared_server: Server):
    for queue in ("a", "b", "c"):
        push(shared_server, queue, 3)
    async with opened(redis_url, ["a", "b", "c"]) as intake:
        assert counts(await intake.fetch(4, ["a", "b", "c"])) == {"a": 3, "b": 1}
        assert counts(await intake.fetch(4, ["c"])) == {"c": 3}
        assert counts(await intake.fetch(4, ["a", "c"])) == {}
        assert counts(await intake.fetch(4, ["b", "c"])) == {"b": 2}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 9), min_size=1, max_size=6),
    st.lists(st.integers(1, 12), min_size=5, max_size=30),
)
async def test_shares_are_exact_to_a_job_under_full_load(
    redis_url: str, shared_server: Server, weights: dict[str, int], slots: list[int]
):
    shared_server.command("FLUSHALL")
    for queue in weights:
        push(shared_server, queue, sum(slots))
    got: Counter[str] = Counter()
    async with opened(redis_url, weights) as intake:
        for free in slots:
            took = counts(await intake.fetch(free, [*weights]))
            assert sum(took.values()) == free
            got.update(took)
            for queue, weight in weights.items():
                assert abs(got[queue] - got.total() * weight / sum(weights.values())) < len(weights)


async def test_who_has_nothing_is_owed_nothing(redis_url: str, shared_server: Server):
    push(shared_server, "a", 300)
    async with opened(redis_url, {"a": 1, "b": 1}) as intake:
        for _ in range(20):
            await intake.fetch(5, ["a", "b"])
        push(shared_server, "b", 100)
        took = Counter[str]()
        for _ in range(20):
            took.update(counts(await intake.fetch(5, ["a", "b"])))
        assert took == {"a": 50, "b": 50}


@pytest.mark.parametrize("slots", [30, 1000])
async def test_heavy_jobs_of_one_queue_take_no_bytes_from_the_share_of_the_others(
    redis_url: str, shared_server: Server, slots: int
):
    """One call brings 8 MB at most; the first queue always has more than that."""
    took = Counter[str]()
    async with opened(redis_url, {"a": 1, "b": 1}) as intake:
        for _ in range(4):
            push(shared_server, "a", 30, size=400_000)
            push(shared_server, "b", 30, size=400_000)
            took.update(counts(await intake.fetch(slots, ["a", "b"])))
    assert abs(took["a"] - took["b"]) <= 21, took  # as many as one call brings
    assert min(took.values()) > 20, took


async def test_queue_and_list_that_are_none_keep_no_other_up(
    redis_url: str, shared_server: Server, caplog: pytest.LogCaptureFixture
):
    shared_server.command("SET", "queue:b", "forged")
    shared_server.command("SET", "queue:c:w:inprogress", "forged")
    for queue in ("a", "c", "d"):
        push(shared_server, queue, 2)
    async with opened(redis_url, {"a": 1, "b": 1, "c": 1, "d": 1}) as intake:
        for _ in range(2):
            fetched = await intake.fetch(2, ["a", "b", "c", "d"])
            assert (counts(fetched), set(fetched.refused)) == ({"a": 1, "d": 1}, {"b", "c"})
        assert await intake.lengths() == [2, 0, -1, 2]
        assert (await intake.fetch(2, ["b"])).refused == ["b"]
        shared_server.command("DEL", "queue:b", "queue:c:w:inprogress")
        assert counts(await intake.fetch(9, ["a", "b", "c", "d"])) == {"c": 2}
    told = [record.getMessage() for record in caplog.records if "fetch from" in record.getMessage()]
    assert len(told) == 4, told
    assert sum("refuses fetch from" in line for line in told) == 2


async def test_what_is_too_large_is_buried_and_named(
    redis_url: str, shared_server: Server, caplog: pytest.LogCaptureFixture
):
    guard = SizeGuard(Settings(max_payload_bytes=100_000))
    push(shared_server, "a", 1, size=guard.huge_bytes + 1)
    push(shared_server, "b", 1)
    async with opened(redis_url, {"a": 1, "b": 1}, guard=guard) as intake:
        assert counts(await intake.fetch(5, ["a", "b"])) == {"b": 1, "a": 0}
    assert shared_server.command("ZCARD", "dead") == 1
    assert f"a payload of {guard.huge_bytes + 1} bytes on queue a goes to the dead set unread" in caplog.text


async def test_lease_that_was_gone_is_taken_with_all_lists(redis_url: str, shared_server: Server):
    async with opened(redis_url, {"a": 1, "b": 1, "c": 1}) as intake:
        assert (await intake.fetch(1, ["a", "b", "c"])).lease_gone is LeaseGone.FORGOTTEN
        assert shared_server.command("HVALS", "tw:inprogress") == ["w a", "w b", "w c"]
        shared_server.command("DEL", "tw:lease:w")
        assert (await intake.fetch(1, ["a", "b"])).lease_gone is LeaseGone.EXPIRED
        assert (await intake.fetch(1, ["a", "b"])).lease_gone is LeaseGone.NO
        shared_server.command("SET", "tw:lease:w", "another's")
        push(shared_server, "a", 1)
        with pytest.raises(Superseded):
            await intake.fetch(1, ["a", "b"])
        assert shared_server.command("LLEN", "queue:a") == 1


# ── limits ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_queues_under_one_limit_have_so_much_between_them_and_the_others_the_rest(
    redis_url: str, shared_server: Server
):
    crm = FleetLimit("crm", concurrency=3)
    for queue in ("a", "b", "wide"):
        push(shared_server, queue, 10)
    async with opened(redis_url, {"a": 1, "b": 1, "wide": 1}, limits={"a": crm, "b": crm}) as intake:
        fetched = await intake.fetch(9, ["a", "b", "wide"])
        took = counts(fetched)
        assert took["a"] + took.get("b", 0) == 3
        assert took["wide"] >= 3
        assert set(fetched.again_in_s) == {"a", "b"}
        assert min(fetched.again_in_s.values()) > 0
        taken = Counter(counts(await intake.fetch(9, ["a", "b", "wide"])))
        assert (taken["a"], taken["b"]) == (0, 0)

        shared_server.command("LPOP", "queue:a:w:inprogress")  # one of them ends
        assert counts(await intake.fetch(1, ["b"])) == {"b": 1}
        assert counts(await intake.fetch(1, ["a"])) == {}
        shared_server.command("DEL", "queue:a:w:inprogress", "queue:b:w:inprogress")
        fetched = await intake.fetch(20, ["a", "b"])
        assert sum(counts(fetched).values()) == 3


async def test_lists_of_all_queues_count_for_other_workers_too(redis_url: str, shared_server: Server):
    """Who looks at the limit leaves empty lists out: ours must be in again as soon as there is something in it."""
    crm = FleetLimit("crm", concurrency=4)
    async with opened(redis_url, {"a": 1, "b": 1}, limits={"a": crm, "b": crm}) as intake:
        for _ in range(3):
            push(shared_server, "a", 2)
            push(shared_server, "b", 2)
            assert counts(await intake.fetch(9, ["a", "b"])) == {"a": 2, "b": 2}
            lists = shared_server.command("SMEMBERS", "tw:lists:@crm")
            assert sorted(lists) == ["queue:a:w:inprogress", "queue:b:w:inprogress"]  # type: ignore[arg-type, type-var]
            shared_server.command("DEL", "queue:a:w:inprogress", "queue:b:w:inprogress")


async def test_rate_of_a_queue_says_when_to_come_again(redis_url: str, shared_server: Server):
    slow = FleetLimit("slow", rate="1/h")
    push(shared_server, "a", 5)
    push(shared_server, "b", 5)
    async with opened(redis_url, ["a", "b"], limits={"a": slow}) as intake:
        fetched = await intake.fetch(4, ["a", "b"])
        assert counts(fetched) == {"a": 1, "b": 3}
        assert fetched.again_in_s["a"] > 0
        assert "b" not in fetched.again_in_s
        assert counts(await intake.fetch(4, ["a", "b"])) == {"b": 2}


# ── news ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_news_say_which_queue_and_take_nothing(redis_url: str, shared_server: Server):
    names = [f"q{number}" for number in range(200)]
    async with opened(redis_url, names) as intake, trio.open_nursery() as nursery:
        assert intake.waits == {}
        heard: list[Collection[str]] = []

        async def listen() -> None:
            heard.append((await intake.wait_for_news(names, never)).queues)

        nursery.start_soon(listen)
        with trio.fail_after(60):
            while _looked_at(shared_server) < len(names):
                await trio.sleep(0.01)
            push(shared_server, "q199", 1)
            while not heard:
                await trio.sleep(0.01)
        assert heard == [["q199"]]
        assert (await intake.wait_for_news(names, never)).queues == ["q199"]  # there is something: at once
        assert counts(await intake.fetch(5, ["q199"])) == {"q199": 1}


async def test_only_queues_that_had_news_are_looked_at_again_and_no_news_is_lost(
    redis_url: str, shared_server: Server, monkeypatch: pytest.MonkeyPatch
):
    names = [f"q{number}" for number in range(200)]
    looked_at: list[set[str]] = []
    ask = Socket.ask

    def noted(self: Socket, command: bytes, *args: Any) -> Any:
        if command == b"EXISTS":
            looked_at.append({key.decode().removeprefix("queue:") for key in args})
        return ask(self, command, *args)

    monkeypatch.setattr(Socket, "ask", noted)

    async def came(*queues: str) -> None:
        """All news of these have come over the connection, or will be told by the next look."""
        heard: set[str] = set()
        with trio.fail_after(30):
            while not heard >= {*queues}:
                heard |= {*(await intake.wait_for_news(names, never)).queues}

    async with opened(redis_url, names) as intake:
        intake._block_s = 0.2
        assert not (await intake.wait_for_news(names, never)).queues
        assert not (await intake.wait_for_news(names, never)).queues
        assert looked_at == [{*names}] * 2  # when nothing was told for a while, all of them
        intake._block_s = LONG_S
        async with trio.open_nursery() as nursery:
            nursery.start_soon(intake.wait_for_news, names, never)
            with trio.fail_after(30):
                while (
                    not (epoch := intake._hearing._epoch)
                    or not epoch.tracking
                    or len(epoch.tracking.watched) < len(names)
                ):
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        looked_at.clear()
        push(shared_server, "q5", 1)
        await came("q5")
        push(shared_server, "q7", 1)  # while nobody waits
        push(shared_server, "q8", 1)
        assert counts(await intake.fetch(5, ["q5"])) == {"q5": 1}
        await came("q7", "q8")
        assert counts(await intake.fetch(5, ["q7", "q8"])) == {"q7": 1, "q8": 1}
        with trio.move_on_after(0.05):
            await intake.wait_for_news(names, never)
        assert set().union(*looked_at) <= {"q5", "q7", "q8"}
        push(shared_server, "q5", 1)  # as before
        await came("q5")
        shared_server.command("FLUSHALL")  # of all is told at once
        with trio.fail_after(30):
            while set((await intake.wait_for_news(names, never)).queues) != {*names}:
                pass


def _looked_at(server: Server) -> int:
    """How many keys Redis is to tell somebody of."""
    info = str(server.command("INFO", "stats"))
    return int(info.split("tracking_total_keys:")[1].split(maxsplit=1)[0])


async def test_wait_for_news_ends_with_its_time_and_can_be_cancelled(redis_url: str):
    async with opened(redis_url, {"a": 1, "b": 1}) as intake:
        intake._block_s = 0.2
        assert not (await intake.wait_for_news(["a", "b"], never)).queues
        intake._block_s = LONG_S
        with trio.move_on_after(0.05):
            await intake.wait_for_news(["a", "b"], never)
        intake._block_s = 0.2
        assert not (await intake.wait_for_news(["a", "b"], never)).queues


async def test_who_may_not_hear_of_changes_looks_now_and_then(
    redis_url: str, shared_server: Server, caplog: pytest.LogCaptureFixture
):
    shared_server.command("ACL", "SETUSER", "deaf", "on", ">x", "~*", "+@all", "-client|tracking")
    try:
        url = redis_url.replace("redis://", "redis://deaf:x@")
        async with opened(url, {"a": 1, "b": 1}) as intake:
            await intake.fetch(1, ["a", "b"])
            push(shared_server, "b", 1)
            with trio.fail_after(60):
                assert set((await intake.wait_for_news(["a", "b"], never)).queues) == {"a", "b"}
    finally:
        shared_server.command("ACL", "DELUSER", "deaf")
    assert [record.levelno for record in caplog.records if "refuses news of capsule io" in record.getMessage()] == [
        logging.ERROR
    ]


@pytest.mark.parametrize("queues", [("a", "b", "c"), {"a": 1, "b": 1, "c": 1}], ids=["strict", "by weight"])
async def test_what_is_large_goes_alone_and_no_order_changes(
    redis_url: str, shared_server: Server, queues: Mapping[str, int] | Sequence[str]
):
    """Who dies of it takes nobody along, of another queue neither."""
    large = "x" * (LARGE_BYTES + 1)
    rows = {"a": ["a0", "a1"], "b": ["b0", large, "b1"], "c": [large + "!", "c0"]}
    for queue, payloads in rows.items():
        shared_server.command("LPUSH", f"queue:{queue}", *payloads)
    came: dict[str, list[str]] = {queue: [] for queue in rows}
    async with opened(redis_url, queues) as intake:
        while pages := (await intake.fetch(100, list(rows))).payloads:
            fetched = [(queue, payload.decode()) for queue, page in pages.items() for payload in page]
            assert len(fetched) == 1 or all(len(payload) < LARGE_BYTES for _, payload in fetched)
            for queue, payload in fetched:
                came[queue].append(payload)
    assert came == rows
