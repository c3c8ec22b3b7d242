"""What `trioworkers.testing` offers to those who write handlers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
import trio

from trioworkers import (
    App,
    BadArguments,
    BadJob,
    Bury,
    Context,
    Discard,
    FleetLimit,
    Job,
    RetryAfter,
    Unavailable,
    WorkerDied,
    testing,
)
from trioworkers.broker.fake_store import EPOCH_S


@attrs.frozen
class User:
    id: int
    email: str


class World:
    """An app, and what its handlers did."""

    def __init__(self) -> None:
        self.app = app = App()
        self.did: list[Any] = []

        @app.handler("mail", "WelcomeJob")
        async def welcome(ctx: Context, user: User, times: int = 1) -> str:
            self.did.append(("welcome", user))
            ctx.enqueue(*(Job("done", "Done", [user.id, n]) for n in range(times)))
            ctx.schedule(3600, Job("done", "Later", [user.id]))
            return f"hello {user.email}"

        @app.handler("mail", "Odd")
        async def odd(ctx: Context, how: str) -> None:
            self.did.append((how, ctx.attempt))
            match how:
                case "fail":
                    raise ValueError("no")
                case "bury":
                    raise Bury("so")
                case "discard":
                    raise Discard("so")
                case "later":
                    raise RetryAfter(60)
                case "hang":
                    await trio.sleep_forever()

        self.welcome = welcome
        self.odd = odd


@pytest.fixture
def world() -> World:
    return World()


ADA = User(7, "ada@example.org")


# ── what was sent ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_was_sent_is_found_whether_it_has_run_or_waits(autojump_clock: Any, world: World):
    async with testing.run(world.app) as test:
        await test.enqueue(world.welcome.job(ADA, 2))
        await test.drain()
        assert [job.args[0]["id"] for job in test.assert_enqueued(world.welcome)] == [7]
        test.assert_enqueued(world.welcome, args=[ADA, 2], count=1)
        test.assert_enqueued("Done", args=[7, ...], queue="done", count=2)
        test.assert_enqueued("Done", where=lambda job: job.args[1] == 1)
        test.assert_enqueued("Later", at=3600)
        test.assert_enqueued("Later", at=timedelta(hours=1))
        test.assert_enqueued("Later", at=datetime.fromtimestamp(EPOCH_S + 3600.5, UTC), within=5)
        test.refute_enqueued("Later", at=3000)
        test.refute_enqueued("Done", at=0)
        test.refute_enqueued(world.odd)
        test.refute_enqueued("Done", queue="mail")
        test.refute_enqueued(world.welcome, args=[ADA])


async def test_assertion_tells_what_was_sent(autojump_clock: Any, world: World):
    async with testing.run(world.app) as test:
        with pytest.raises(AssertionError, match="no such job was sent: Done; nothing was sent"):
            test.assert_enqueued("Done")
        await test.enqueue(world.welcome.job(ADA))
        await test.drain()
        with pytest.raises(
            AssertionError, match=r"(?s)no such job was sent: Done with \[8\].*Done on done with \[7, 0\]"
        ):
            test.assert_enqueued("Done", args=[8])
        with pytest.raises(AssertionError, match="1 such jobs were sent, not 2"):
            test.assert_enqueued("Done", count=2)
        with pytest.raises(AssertionError, match="such a job was sent: WelcomeJob on mail"):
            test.refute_enqueued(world.welcome)
        with pytest.raises(BadJob):  # what no such job could have
            test.assert_enqueued(world.welcome, args=["ada"])


async def test_what_a_failed_attempt_wanted_to_send_was_not_sent(autojump_clock: Any, world: World):
    app = App()

    @app.handler("q")
    async def fails(ctx: Context) -> None:
        ctx.enqueue(Job("done", "Done"))
        raise Bury

    async with testing.run(app) as test:
        await test.enqueue(fails.job())
        await test.drain()
        test.refute_enqueued("Done")


# ── one thing at a time ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_perform_runs_a_handler_and_returns_what_it_returns(autojump_clock: Any, world: World):
    around = []

    @world.app.middleware
    async def noted(ctx: Context, call_next: Any) -> Any:
        around.append(ctx.job.job_class)
        return await call_next()

    async with testing.run(world.app) as test:
        assert await test.perform(world.welcome, ADA) == "hello ada@example.org"
        assert world.did == [("welcome", ADA)]  # through JSON, and back
        assert around == ["WelcomeJob"]
        test.assert_enqueued("Done", count=1)
        with pytest.raises(ValueError, match="no"):
            await test.perform(world.odd, "fail")
        with pytest.raises(BadJob):
            await test.perform(world.welcome, "ada")  # type: ignore[arg-type]
        assert (test.ran, test.retries, test.dead) == ([], [], [])


async def test_perform_keeps_the_timeout(autojump_clock: Any):
    app = App()

    @app.handler("q", timeout=5)
    async def hangs() -> None:
        await trio.sleep_forever()

    async with testing.run(app) as test:
        with pytest.raises(trio.TooSlowError):
            await test.perform(hangs)
        with trio.move_on_after(1) as scope:  # of the test's own
            await test.perform(hangs)
        assert scope.cancelled_caught


async def test_jobs_run_one_by_one_and_each_tells_how_it_ended(autojump_clock: Any, world: World):
    async with testing.run(world.app, manual=True) as test:
        ways = ("good", "fail", "bury", "discard", "later")
        await test.enqueue(*(world.odd.job(how) for how in ways), Job("mail", "WelcomeJob", ["no user"]))
        await trio.sleep(100)
        assert world.did == []
        ended = []
        for n in range(6):
            assert len(test.jobs("mail")) == 6 - n
            ended.append(await test.run_one())
        assert [ran.how for ran in ended] == ["succeeded", "retried", "dead", "discarded", "retried", "dead"]
        assert [type(ran.error) for ran in ended[1:]] == [ValueError, Bury, Discard, RetryAfter, BadArguments]
        assert ended[0].error is None
        assert test.ran == ended
        with pytest.raises(AssertionError, match="no job waits"):
            await test.run_one()
        with pytest.raises(AssertionError, match="no job waits on nobody"):
            await test.run_one("nobody")


async def test_drain_runs_the_rest_of_what_was_kept_back(autojump_clock: Any, world: World):
    async with testing.run(world.app, manual=True) as test:
        await test.enqueue(*(world.odd.job("good") for _ in range(3)))
        await test.run_one("mail")
        await test.drain()
        assert test.completed == 3
        await test.enqueue(world.odd.job("good"))
        await trio.sleep(10)
        assert test.completed == 3


async def test_run_one_says_that_a_limit_keeps_the_job(autojump_clock: Any):
    app = App()

    @app.handler("q", limit=FleetLimit("one", concurrency=1))
    async def limited() -> None: ...

    async with testing.run(app, manual=True) as test:
        await test.enqueue(limited.job())
        assert (await test.run_one()).how == "succeeded"
        test._broker.limits.permits["one"].add("somebody else's")
        await test.enqueue(limited.job())
        with pytest.raises(AssertionError, match="waits at a limit"):
            await test.run_one()
    async with testing.run(app) as test:
        with pytest.raises(RuntimeError, match="manual=True"):
            await test.run_one()


async def test_time_passes_and_what_comes_due_happens_at_its_moment(autojump_clock: Any, world: World):
    async with testing.run(world.app) as test:
        await test.schedule(3600, world.odd.job("hour"))
        await test.schedule(timedelta(hours=9), world.odd.job("much later"))
        await test.enqueue(Job("mail", "Odd", ["fail"], retry=2))
        await test.drain()
        begun = trio.current_time()
        await test.advance(hours=8)
        assert trio.current_time() - begun == 8 * 3600
        assert [how for how, _ in world.did] == ["fail", "fail", "fail", "hour"]
        assert [job.job_class for job in test.dead] == ["Odd"]
        await test.advance(61, minutes=59, hours=0, days=0)
        assert world.did[-1] == ("much later", 1)


async def test_time_passes_on_a_clock_that_stands_still(world: World, mock_clock: trio.testing.MockClock):
    async with testing.run(world.app) as test:
        await test.schedule(60, world.odd.job("soon"))
        await test.advance(minutes=2)
        assert [how for how, _ in world.did] == ["soon"]


async def test_advance_needs_a_virtual_clock(world: World):
    async with testing.run(world.app) as test:
        with pytest.raises(RuntimeError, match="autojump_clock"):
            await test.advance(1)


# ── faults ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_crash_puts_back_what_ran_and_the_third_one_buries_it(autojump_clock: Any, world: World):
    told = []

    @world.app.on_death
    async def died(ctx: Context, error: BaseException) -> None:
        told.append((ctx.job.job_class, type(error)))

    async with testing.run(world.app) as test:
        await test.enqueue(world.odd.job("hang"))
        for crash in range(1, 4):
            while len(world.did) < crash:
                await trio.sleep(1)
            assert world.did[-1] == ("hang", 1)  # no attempt counted
            await test.crash_worker()
        await test.drain()
        assert [job.job_class for job in test.dead] == ["Odd"]
        assert told == [("Odd", WorkerDied)]
        await test.enqueue(world.odd.job("good"))
        await test.drain()
        assert world.did[-1] == ("good", 1)


async def test_innocent_jobs_survive_crashes(autojump_clock: Any, world: World):
    app = App()
    runs: list[int] = []

    @app.handler("q")
    async def naps(n: int) -> None:
        runs.append(n)
        await trio.sleep(10)

    async with testing.run(app) as test:
        await test.enqueue(naps.job(1), naps.job(2))
        await trio.sleep(1)
        await test.crash_worker()
        await test.drain()
        assert (sorted(runs), test.dead, test.completed) == ([1, 1, 2, 2], [], 2)


async def test_outage_ends_nothing(autojump_clock: Any, world: World):
    async with testing.run(world.app) as test:
        await test.enqueue(world.odd.job("one"))
        await test.drain()
        with test.redis_down():
            with pytest.raises(Unavailable):
                await test.enqueue(world.odd.job("lost"))
            await test.advance(minutes=5)
        await test.enqueue(world.odd.job("two"))
        await test.drain()
        assert [how for how, _ in world.did] == ["one", "two"]


async def test_outcome_of_an_outage_is_written_when_it_is_over(autojump_clock: Any):
    app = App()

    @app.handler("q")
    async def naps(ctx: Context) -> None:
        await trio.sleep(60)
        ctx.enqueue(Job("done", "Done"))

    async with testing.run(app) as test:
        await test.enqueue(naps.job())
        await trio.sleep(1)
        with test.redis_down():
            await test.advance(minutes=10)
            assert test.jobs("done") == []
        await test.drain()
        assert (len(test.jobs("done")), test.completed) == (1, 1)


async def test_lost_replies_double_nothing(autojump_clock: Any, world: World):
    async with testing.run(world.app) as test:
        test.lose_reply(times=2)
        await test.enqueue(world.welcome.job(ADA))
        await test.drain()
        assert (len(test.jobs("done")), len(world.did), [ran.how for ran in test.ran]) == (1, 1, ["succeeded"])
        test.lose_reply("send")
        with pytest.raises(Unavailable, match="reply was lost"):
            await test.enqueue(world.odd.job("sent"))
        await test.drain()
        assert world.did[-1] == ("sent", 1)


async def test_clock_of_redis_jumps_while_no_time_passes(autojump_clock: Any, world: World):
    async with testing.run(world.app) as test:
        await test.schedule(3600, world.odd.job("soon"))
        await test.enqueue(Job("mail", "Odd", ["wanted"], expires_in=60))
        await test.drain()
        begun = trio.current_time()
        test.jump_clock(4000)
        await test.drain()
        assert [how for how, _ in world.did] == ["wanted", "soon"]
        assert trio.current_time() - begun < 10
        test.jump_clock(-8000)
        await test.schedule(1, world.odd.job("back"))
        await test.advance(2)
        assert world.did[-1] == ("back", 1)
