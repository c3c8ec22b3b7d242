"""A payload of which Redis tells, in a capsule of many queues, is taken in the same moment: what comes of that on good days and bad ones."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from servers import Server
from test_capsule_intake import always, in_progress, never, opened, push

from trioworkers import FleetLimit
from trioworkers.broker.capsule_intake import RedisCapsuleIntake
from trioworkers.broker.contract import Heard
from trioworkers.errors import Unavailable
from trioworkers.settings import Settings
from trioworkers.size_guard import SizeGuard

NAMES = [f"q{number}" for number in range(12)]


async def told(
    intake: RedisCapsuleIntake,
    act: Callable[[], object],
    has_slot: Callable[[], bool] = always,
    scope: trio.CancelScope | None = None,
) -> Heard:
    """What comes of a wait for news of these queues, when `act` is done while Redis watches all of them."""
    heard: list[Heard] = []

    async def listen() -> None:
        with scope or trio.CancelScope():
            heard.append(await intake.wait_for_news(NAMES, has_slot))

    with trio.fail_after(60):
        await intake.fetch(1, NAMES)  # with a lease
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            while (
                not (epoch := intake._hearing._epoch) or not epoch.tracking or len(epoch.tracking.watched) < len(NAMES)
            ):
                await trio.sleep(0.005)
            act()
    return heard[0]


async def test_it_is_taken_into_our_list(redis_url: str, shared_server: Server):
    async with opened(redis_url, NAMES) as intake:
        heard = await told(intake, lambda: push(shared_server, "q7", 2))
        assert heard == Heard(set(), "q7", b"q70")
        assert in_progress(shared_server, "q7") == ["q70"]
        assert (await intake.fetch(5, ["q7"])).payloads == {"q7": [b"q71"]}
        assert in_progress(shared_server, "q7") == ["q71", "q70"]


async def test_without_a_slot_it_stays_where_it_is(redis_url: str, shared_server: Server):
    async with opened(redis_url, NAMES) as intake:
        heard = await told(intake, lambda: push(shared_server, "q7", 1), never)
        assert heard == Heard(["q7"])
    assert shared_server.command("LRANGE", "queue:q7", 0, -1) == ["q70"]


async def test_it_is_told_if_somebody_is_suspected(redis_url: str, shared_server: Server):
    """As the script tells it, for a job that its worker dies of comes back like this."""

    def crash() -> None:
        shared_server.command("HSET", "tw:crashes", "jid", "1 0")
        push(shared_server, "q7", 1)

    async with opened(redis_url, NAMES) as intake:
        assert not (await told(intake, lambda: push(shared_server, "q1", 1))).suspects
        assert (await intake.fetch(5, ["q1"])).payloads == {}
        assert (await told(intake, crash)).suspects


async def test_of_several_at_once_none_is_taken_out_of_turn(redis_url: str, shared_server: Server):
    """Of all keys that Redis had is told together."""
    async with opened(redis_url, NAMES) as intake:
        heard = await told(intake, lambda: shared_server.command("FLUSHALL"))
        assert set(heard.queues) == {*NAMES}
        assert heard.payload is None


async def test_what_another_worker_was_faster_at_is_no_news(redis_url: str, shared_server: Server):
    def push_and_take() -> None:
        shared_server.command("EVAL", "redis.call('LPUSH', 'queue:q7', 1) redis.call('LPOP', 'queue:q7')", 0)

    async with opened(redis_url, NAMES) as intake:
        assert await told(intake, push_and_take) == Heard(set(), "q7")
        assert (await told(intake, lambda: push(shared_server, "q7", 1))).payload == b"q70"


async def test_cancelled_in_that_moment_it_is_delivered_all_the_same(redis_url: str, shared_server: Server):
    """It is ours already: else it would lie in our list, and nobody would run it until lists are compared."""
    scope = trio.CancelScope()

    def cancel() -> bool:
        scope.cancel()
        return True

    async with opened(redis_url, NAMES) as intake:
        heard = await told(intake, lambda: push(shared_server, "q7", 1), cancel, scope)
        assert (heard.queue, heard.payload) == ("q7", b"q70")


async def test_connection_that_breaks_in_that_moment_is_an_outage(redis_url: str, shared_server: Server):
    def kill() -> bool:
        shared_server.command("CLIENT", "KILL", "TYPE", "normal")
        return True

    async with opened(redis_url, NAMES) as intake:
        with pytest.RaisesGroup(Unavailable):
            await told(intake, lambda: push(shared_server, "q7", 1), kill)
        assert intake._brokers["q7"].cut_off == {"q7"}
        assert shared_server.command("LLEN", "queue:q7") == 1


async def test_what_is_huge_is_buried_unread(redis_url: str, shared_server: Server, caplog: pytest.LogCaptureFixture):
    async with opened(redis_url, NAMES, guard=SizeGuard(Settings(max_payload_bytes=100))) as intake:
        huge = intake._broker.guard.huge_bytes + 1
        heard = await told(intake, lambda: push(shared_server, "q7", 1, huge))
        assert heard == Heard(["q7"])
        assert in_progress(shared_server, "q7") == []
        assert shared_server.command("ZCARD", "dead") == 1
        assert f"a payload of {huge} bytes on queue q7" in caplog.text


async def test_what_is_huge_and_cut_off_is_buried_before_anybody_reads_it(redis_url: str, shared_server: Server):
    async with opened(redis_url, NAMES, guard=SizeGuard(Settings(max_payload_bytes=100))) as intake:
        shared_server.command("LPUSH", "queue:q7:w:inprogress", "x" * (intake._broker.guard.huge_bytes + 1))
        intake._broker.cut_off.add("q7")
        await intake.bury_cut_off()
        assert (in_progress(shared_server, "q7"), intake._broker.cut_off) == ([], set())


async def test_refusal_is_left_to_the_script(redis_url: str, shared_server: Server):
    """Which says why, in the log, too."""
    async with opened(redis_url, NAMES) as intake:
        heard = await told(intake, lambda: shared_server.command("SET", "queue:q7", "no list"))
        assert heard == Heard(["q7"])
        assert (await intake.fetch(1, ["q7"])).refused == ["q7"]


async def test_none_is_taken_past_a_limit(redis_url: str, shared_server: Server):
    async with opened(redis_url, NAMES, limits={"q7": FleetLimit("api", concurrency=1)}) as intake:
        heard = await told(intake, lambda: push(shared_server, "q7", 1))
        assert heard == Heard(["q7"])


async def test_none_is_taken_when_our_lease_may_be_gone(redis_url: str, shared_server: Server):
    """Others may take our lists for abandoned."""
    async with opened(redis_url, NAMES) as intake:

        def late() -> None:
            intake._broker.holder.renewed_at = trio.current_time() - 3600
            push(shared_server, "q7", 1)

        assert await told(intake, late) == Heard(["q7"])
