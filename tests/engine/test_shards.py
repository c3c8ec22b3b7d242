"""A worker with several Redises: all of them at once, one that goes, one that never comes, and what it still finds where a queue has been before."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
import trio
import trio.lowlevel
from servers import Server, free_port

from trioworkers import (
    App,
    BadJob,
    Batch,
    ConfigurationError,
    Context,
    FleetLimit,
    Job,
    Shard,
    Superseded,
    Unavailable,
    Unique,
    Worker,
)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Server, Server]]:
    """Two servers of the test's own."""
    for name in "ab":
        (tmp_path / name).mkdir()
    servers = (Server(tmp_path / "a").start(), Server(tmp_path / "b").start())
    yield servers
    for server in servers:
        server.kill()


async def nothing() -> None:
    """What a handler does here."""


class Spread:
    """An App with two shards, and where each of its jobs ran."""

    def __init__(self, a: str, b: str, *, shards: tuple[str, ...] = ("a", "b"), concurrency: int = 4) -> None:
        self.app = App(
            shards={"a": Shard(a, namespace="{a}"), "b": Shard(b, namespace="{b}")}, shutdown_timeout=1.0, lease=2.0
        )
        self.app.queue("track", shards=list(shards), concurrency=concurrency)
        self.ran: Counter[str] = Counter()
        self.running = self.most = 0
        self.gate: trio.Event | None = None
        self.app.handler("track", "Track", retry=3)(self._track)

    async def _track(self, ctx: Context) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if self.gate is not None:
                await self.gate.wait()
            await trio.lowlevel.checkpoint()
        finally:
            self.running -= 1
        self.ran[ctx.job.jid] += 1

    @asynccontextmanager
    async def working(self) -> AsyncIterator[Worker]:
        async with trio.open_nursery() as nursery:
            worker: Worker = await nursery.start(self.app.serve)
            yield worker
            worker.stop(1.0)


@pytest.fixture
def spread(redis_url: str) -> Spread:
    return Spread(redis_url, redis_url)


def keys(url: str, pattern: str) -> list[str]:
    with redis.Redis.from_url(url, decode_responses=True) as client:
        return sorted(client.keys(pattern))


async def until(condition: object, *, patience_s: float = 60.0) -> None:
    with trio.fail_after(patience_s):
        while not condition():  # type: ignore[operator]
            await trio.sleep(0.01)


async def test_jobs_of_one_queue_run_from_all_its_shards_each_once(spread: Spread, redis_url: str):
    async with spread.app.client() as client:
        sent = await client.enqueue(*(Job("track", "Track") for _ in range(200)))
    with redis.Redis.from_url(redis_url) as there:
        sizes = [there.llen(f"{{{name}}}:queue:track") for name in "ab"]
    assert sum(sizes) == 200
    assert min(sizes) > 50
    async with spread.working():
        await until(lambda: len(spread.ran) == 200)
    assert spread.ran == Counter(map(str, sent))
    assert spread.most <= 4
    assert keys(redis_url, "*inprogress") == []
    assert keys(redis_url, "*tw:lease*") == []


async def test_slots_are_shared_also_by_an_idle_shard(redis_url: str):
    spread = Spread(redis_url, redis_url, concurrency=1)
    async with spread.working() as worker, spread.app.client() as client:
        for _ in range(30):
            await client.enqueue(Job("track", "Track"))
            await trio.sleep(0.003)
        await until(lambda: len(spread.ran) == 30)
        assert worker.stats().free in ({"track": 1}, {"track": 0})
        assert worker.stats().running["track"] <= 1
    assert spread.most == 1


@pytest.mark.parametrize("shares", ["nothing", "slots by weight", "slots in order", "slots in order, limited"])
async def test_shards_take_turns_while_each_has_more_than_can_run(redis_url: str, shares: str):
    app = App(shards={name: Shard(redis_url, namespace=f"{{{name}}}") for name in "ab"}, shutdown_timeout=0.1)
    limit = FleetLimit("wide", concurrency=100) if "limited" in shares else None
    app.queue("track", shards=["a", "b"])
    app.queue("other", shards=["a"], limit=limit)
    app.handler("other", "Other")(nothing)
    if shares != "nothing":
        weights = {"track": 2, "other": 1}
        app.capsule("both", concurrency=4, queues=weights if "weight" in shares else [*weights])
    ran: Counter[str] = Counter()

    @app.handler("track", "Again")
    async def again(ctx: Context, shard: str) -> None:
        ran[shard] += 1
        ctx.enqueue(Job("track", "Again", [shard]))  # it stays there, so no queue ever gets shorter

    with redis.Redis.from_url(redis_url) as there:
        for shard in "ab":
            payloads = [json.dumps({"class": "Again", "args": [shard], "jid": f"{shard}{n}"}) for n in range(40)]
            there.lpush(f"{{{shard}}}:queue:track", *payloads)
    async with trio.open_nursery() as nursery:
        worker: Worker = await nursery.start(app.serve)
        await until(lambda: min(ran["a"], ran["b"]) > 100)
        worker.stop(0.1)


async def test_retry_stays_in_its_shard(spread: Spread, redis_url: str):
    async def fail() -> None:
        raise RuntimeError("no")

    spread.app.handler("track", "Fails", retry=3)(fail)
    async with spread.app.client() as client:
        await client.enqueue(*(Job("track", "Fails") for _ in range(40)))
    with redis.Redis.from_url(redis_url) as there:
        before = {name: there.lrange(f"{{{name}}}:queue:track", 0, -1) for name in "ab"}

        def failed(name: str) -> set[str]:
            return {json.loads(payload)["jid"] for payload in there.zrange(f"{{{name}}}:retry", 0, -1)}

        async with spread.working():
            await until(lambda: len(failed("a")) + len(failed("b")) == 40)
        for name in "ab":
            assert failed(name) == {json.loads(payload)["jid"] for payload in before[name]}


async def test_shard_that_a_queue_has_left_is_drained(redis_url: str):
    before = Spread(redis_url, redis_url)
    async with before.app.client() as client:
        now = await client.enqueue(*(Job("track", "Track") for _ in range(20)))
        later = await client.schedule(1, *(Job("track", "Track") for _ in range(20)))
    after = Spread(redis_url, redis_url, shards=("b",))
    async with after.working():
        await until(lambda: len(after.ran) == 40)
    assert after.ran == Counter(map(str, now + later))


async def test_own_redis_is_drained_when_a_queue_goes_to_shards(redis_url: str):
    before = App(redis_url)
    before.handler("track", "Track")(nothing)
    async with before.client() as client:
        sent = await client.enqueue(*(Job("track", "Track") for _ in range(5)))
    after = Spread(redis_url, redis_url)
    after.app.configure(redis_url=redis_url)
    async with after.working(), after.app.client() as client:
        sent += await client.enqueue(*(Job("track", "Track") for _ in range(5)))
        await until(lambda: len(after.ran) == 10)
    assert after.ran == Counter(map(str, sent))


async def test_outage_of_one_shard_is_none_of_the_other(pair: tuple[Server, Server]):
    a, b = pair
    spread = Spread(a.url, b.url)
    layout = spread.app.layout
    assert layout is not None
    jobs = [Job("track", "Track") for _ in range(400)]
    of_a = [job for job in jobs if layout.place(job) == "a"]
    of_b = [job for job in jobs if layout.place(job) == "b"]
    async with spread.working() as worker, spread.app.client() as client:
        await client.enqueue(*of_a[:10], *of_b[:10])
        await until(lambda: len(spread.ran) == 20)
        b.kill()
        for job in of_a[10:]:
            await client.enqueue(job)
        await until(lambda: len(spread.ran) == 10 + len(of_a))
        assert worker.pulse().is_ready
        b.start()
        await trio.lowlevel.checkpoint()
        for job in of_b[10:]:
            with trio.fail_after(30):
                while True:
                    try:
                        await client.enqueue(job)
                    except Unavailable:  # it takes a moment to come back
                        await trio.sleep(0.05)
                    else:
                        break
        await until(lambda: len(spread.ran) == 400)


async def test_shard_that_may_lose_jobs_is_named(pair: tuple[Server, Server], caplog: pytest.LogCaptureFixture):
    a, b = pair
    b.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    b.command("CONFIG", "SET", "maxmemory", "1gb")
    async with Spread(a.url, b.url).working():
        await until(lambda: "shard 'b': " in caplog.text)
    [said] = [each.getMessage() for each in caplog.records if "maxmemory-policy" in each.getMessage()]
    assert said.startswith("shard 'b': ")


async def test_worker_begins_without_a_shard_that_is_away_and_stops_in_time(pair: tuple[Server, Server]):
    a, b = pair
    b.kill()
    spread = Spread(a.url, b.url)
    layout = spread.app.layout
    assert layout is not None
    jobs = [job for job in (Job("track", "Track") for _ in range(100)) if layout.place(job) == "a"]
    async with spread.working() as worker:
        async with spread.app.client() as client:
            await client.enqueue(*jobs)
        await until(lambda: len(spread.ran) == len(jobs))
        worker.stop(0.5)
        with trio.fail_after(60):
            await worker.gone.wait()
    assert keys(a.url, "*tw:lease*") == []


async def test_worker_stops_in_time_while_a_shard_is_away_and_the_jobs_of_the_other_are_put_back(
    pair: tuple[Server, Server],
):
    a, b = pair
    spread = Spread(a.url, b.url, concurrency=40)
    spread.gate = trio.Event()
    async with spread.working() as worker, spread.app.client() as client:
        await client.enqueue(*(Job("track", "Track") for _ in range(30)))
        await until(lambda: spread.running == 30)
        b.kill()
        worker.stop(0.3)
        with trio.fail_after(60):
            await worker.gone.wait()
    assert keys(a.url, "*inprogress") == []
    with redis.Redis.from_url(a.url) as there:
        assert there.llen("{a}:queue:track") > 0


async def test_quiet_and_stop_for_one_shard_are_for_all(spread: Spread, redis_url: str):
    async with spread.working() as worker:
        with redis.Redis.from_url(redis_url, decode_responses=True) as there:
            await until(lambda: there.scard("{b}:processes"))  # a worker has started with the first shard that is there
            identity = there.smembers("{b}:processes").pop()
            there.lpush(f"{{b}}:{identity}-signals", "TSTP")
            await until(lambda: worker.stats().quiet)
            async with spread.app.client() as client:
                await client.enqueue(*(Job("track", "Track") for _ in range(20)))
            there.lpush(f"{{b}}:{identity}-signals", "TERM")
            await until(lambda: worker.stopping)
    assert not spread.ran


async def test_process_id_that_is_taken_in_one_shard_ends_the_worker(spread: Spread):
    spread.app.configure(process_id="w1")
    async with spread.working() as first:
        other = App(shards={"x": spread.app.shards["b"]}, process_id="w1", lease=2.0, shutdown_timeout=1.0)
        other.queue("track", shards=["x"])
        other.handler("track", "Track")(nothing)
        with pytest.raises(Superseded):
            await other.serve()
        assert not first.stopping


async def test_jobs_send_from_one_shard_to_another_at_once(spread: Spread):
    async def sends(ctx: Context) -> None:
        await ctx.client.enqueue(*(Job("track", "Track") for _ in range(20)))

    spread.app.handler("track", "Sends")(sends)
    async with spread.working(), spread.app.client() as client:
        await client.enqueue(Job("track", "Sends"))
        await until(lambda: len(spread.ran) == 20)
    assert set(spread.ran.values()) == {1}


async def test_limit_is_whole_though_its_queue_is_spread(spread: Spread):
    most: Counter[int] = Counter()
    now: Counter[int] = Counter()

    async def limited(customer: int) -> None:
        now[customer] += 1
        most[customer] = max(most[customer], now[customer])
        await trio.sleep(0.01)
        now[customer] -= 1
        spread.ran[f"{customer}"] += 1

    handler = spread.app.handler("track", "Limited", limit=FleetLimit("crm", concurrency=1, by="customer"))(limited)
    async with spread.working(), spread.app.client() as client:
        await client.enqueue(*(handler.job(number % 6) for number in range(48)))
        await until(lambda: spread.ran.total() == 48)
    assert set(most.values()) == {1}


async def test_limit_around_a_part_that_lies_elsewhere_is_refused(spread: Spread):
    errors: list[str] = []

    async def waits(ctx: Context) -> None:
        try:
            async with ctx.limit(FleetLimit("part", concurrency=1)):
                spread.ran[ctx.job.jid] += 1
        except ConfigurationError as error:
            errors.append(str(error))

    spread.app.handler("track", "Waits")(waits)
    async with spread.working(), spread.app.client() as client:
        await client.enqueue(*(Job("track", "Waits") for _ in range(20)))
        await until(lambda: len(spread.ran) + len(errors) == 20)
    assert spread.ran
    assert errors
    assert "limit 'part' lies in shard" in errors[0]


async def test_batch_lies_in_one_shard_and_is_called_back_once(spread: Spread):
    called: Counter[str] = Counter()

    async def after(name: str) -> None:
        called[name] += 1

    handler = spread.app.handler("track", "After")(after)
    async with spread.working(), spread.app.client() as client:
        for number in range(6):
            batch = Batch(on_success=handler.job(f"batch {number}"))
            batch.add(*(Job("track", "Track", runs_here=True) for _ in range(5)))
            await client.enqueue(batch)
            async with client.batch(on_success=handler.job(f"streamed {number}")) as streamed:
                await streamed.add(*(Job("track", "Track", runs_here=True) for _ in range(5)))
        await until(lambda: len(called) == 12)
    assert set(called.values()) == {1}
    assert spread.ran.total() == 60


async def test_batch_over_queues_in_different_shards_is_refused(redis_url: str):
    app = App(shards={"a": Shard(redis_url, namespace="{a}"), "b": Shard(redis_url, namespace="{b}")})
    app.queue("one", shards=["a"])
    app.queue("two", shards=["b"])
    batch = Batch()
    batch.add(Job("one", "X", runs_here=True), Job("two", "X", runs_here=True))
    async with app.client() as client:
        with pytest.raises(BadJob, match="a batch lies in one shard"):
            await client.enqueue(batch)
        async with client.batch(on_success=Job("one", "X", runs_here=True)) as streamed:
            with pytest.raises(BadJob, match="a batch lies in one shard"):
                await streamed.add(Job("two", "X", runs_here=True))


async def test_result_is_found_in_whatever_shard(spread: Spread):
    async def returns(number: int) -> int:
        return number

    handler = spread.app.handler("track", "Returns", keep_result=60)(returns)
    async with spread.working(), spread.app.client() as client:
        sent = await client.enqueue(*(handler.job(number) for number in range(12)))
        assert [await client.result(jid, timeout=60) for jid in sent] == [*range(12)]


async def test_closed_port_is_an_outage_for_the_jobs_of_that_shard_only(redis_url: str):
    app = App(shards={"a": Shard(redis_url, namespace="{a}"), "b": Shard(f"redis://127.0.0.1:{free_port()}/0")})
    app.queue("track", shards=["a", "b"])
    jobs = [Job("track", "X") for _ in range(40)]
    layout = app.layout
    assert layout is not None
    of_a = sum(layout.place(job) == "a" for job in jobs)
    async with app.client() as client:
        with pytest.raises(Unavailable):
            await client.enqueue(*jobs)
    with redis.Redis.from_url(redis_url) as there:
        assert there.llen("{a}:queue:track") == of_a


@pytest.mark.parametrize("queues", [{"fast": 3, "slow": 1}, ["fast", "slow"]])
async def test_capsule_over_two_shards_has_its_slots_once(redis_url: str, queues: dict[str, int] | list[str]):
    spread = Spread(redis_url, redis_url)
    spread.app.capsule("io", concurrency=3, queues=queues)
    ran: Counter[str] = Counter()
    running = most = 0

    async def count(ctx: Context) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await trio.sleep(0.002)
        running -= 1
        ran[ctx.job.jid] += 1

    spread.app.queue("fast", shards=["a", "b"])
    spread.app.queue("slow", shards=["b"])
    for queue in ("fast", "slow"):
        spread.app.handler(queue, "Count")(count)
    async with spread.working(), spread.app.client() as client:
        for size in (1, 1, 40, 1, 1):  # each shard's part is idle, busy, and idle again
            before = len(ran)
            await client.enqueue(*(Job(queue, "Count") for queue in ("fast", "slow") for _ in range(size)))
            await until(lambda: len(ran) == before + 2 * size)  # noqa: B023 - called here
    assert most == 3
    assert set(ran.values()) == {1}


# ── what jobs send into other shards ───────────────────────────────────────────────────────────────────────────────────


class Chain:
    """A queue in each of two shards: jobs of the first send to the second."""

    def __init__(self, a: str, b: str) -> None:
        self.app = App(
            shards={"a": Shard(a, namespace="{a}"), "b": Shard(b, namespace="{b}")}, shutdown_timeout=1.0, lease=2.0
        )
        self.app.queue("first", shards=["a"])
        self.app.queue("second", shards=["b"])
        self.ran: Counter[Any] = Counter()
        self.second = self.app.handler("second", "Second")(self._second)
        self.first = self.app.handler("first", "First", retry=3)(self._first)
        self.once = self.app.handler("second", "Once", unique=Unique(by="number"))(self._second)
        self.sends: Callable[[Context, int], None] = lambda ctx, number: ctx.enqueue(self.second.job(number))

    async def _first(self, ctx: Context, number: int) -> None:
        self.sends(ctx, number)

    async def _second(self, number: int) -> None:
        self.ran[number] += 1

    @asynccontextmanager
    async def working(self) -> AsyncIterator[Worker]:
        async with trio.open_nursery() as nursery:
            worker: Worker = await nursery.start(self.app.serve)
            yield worker
            worker.stop(1.0)


async def test_what_a_job_enqueues_into_another_shard_comes_there_once(redis_url: str):
    chain = Chain(redis_url, redis_url)
    async with chain.working(), chain.app.client() as client:
        await client.enqueue(*(chain.first.job(number) for number in range(300)))
        await until(lambda: len(chain.ran) == 300)
    assert set(chain.ran.values()) == {1}
    assert keys(redis_url, "*tw:outbox:*") == []
    assert keys(redis_url, "*tw:outboxes") == []


async def test_two_workers_forward_side_by_side_and_nothing_comes_twice(redis_url: str):
    chain, other = Chain(redis_url, redis_url), Chain(redis_url, redis_url)
    async with chain.working(), other.working(), chain.app.client() as client:
        await client.enqueue(*(chain.first.job(number) for number in range(300)))
        await until(lambda: len(chain.ran + other.ran) == 300)
        await until(lambda: keys(redis_url, "*tw:outbox:*") == [])
    assert set((chain.ran + other.ran).values()) == {1}


async def test_failed_attempt_sends_nothing_elsewhere(redis_url: str):
    chain = Chain(redis_url, redis_url)

    def fail(ctx: Context, number: int) -> None:
        ctx.enqueue(chain.second.job(number))
        if number % 2:
            raise RuntimeError("no")

    chain.sends = fail
    async with chain.working(), chain.app.client() as client:
        await client.enqueue(*(chain.first.job(number) for number in range(20)))
        await until(lambda: len(chain.ran) == 10)
        with redis.Redis.from_url(redis_url) as there:
            await until(lambda: there.zcard("{a}:retry") == 10)
    assert set(chain.ran) == {*range(0, 20, 2)}


async def test_delay_unique_job_and_batch_go_elsewhere_as_they_are(redis_url: str):
    chain = Chain(redis_url, redis_url)

    def send(ctx: Context, number: int) -> None:
        ctx.enqueue(chain.once.job(100), chain.once.job(100))  # the same: one of them is skipped
        ctx.schedule(0.3, chain.second.job(200 + number))
        batch = Batch(on_success=chain.second.job(400))
        batch.add(chain.second.job(300), chain.second.job(301))
        ctx.enqueue(batch)

    chain.sends = send
    async with chain.working(), chain.app.client() as client:
        await client.enqueue(chain.first.job(7))
        await until(lambda: len(chain.ran) == 5)
    assert chain.ran == {100: 1, 207: 1, 300: 1, 301: 1, 400: 1}


async def test_outbox_waits_for_a_shard_that_is_away_and_keeps_no_other_waiting(pair: tuple[Server, Server]):
    a, b = pair
    chain = Chain(a.url, b.url)
    local = chain.app.handler("first", "Local")(chain._second)
    async with chain.working(), chain.app.client() as client:
        b.kill()
        await client.enqueue(*(chain.first.job(number) for number in range(50)))
        with redis.Redis.from_url(a.url) as there:
            await until(lambda: there.llen("{a}:tw:outbox:b") == 50)
        await client.enqueue(*(local.job(1000 + number) for number in range(10)))
        await until(lambda: len(chain.ran) == 10)
        b.start()
        await until(lambda: len(chain.ran) == 60)
    assert set(chain.ran.values()) == {1}


async def test_batch_of_a_job_lies_where_it_is(redis_url: str, caplog: pytest.LogCaptureFixture):
    chain = Chain(redis_url, redis_url)

    def send(ctx: Context, number: int) -> None:
        assert ctx.batch is not None
        ctx.batch.add(chain.second.job(number))

    chain.sends = send
    batch = Batch()
    batch.add(chain.first.job(1))
    async with chain.working(), chain.app.client() as client:
        await client.enqueue(batch)
        with redis.Redis.from_url(redis_url) as there:
            await until(lambda: there.zcard("{a}:retry") == 1)
            assert b"a batch lies in one shard" in there.zrange("{a}:retry", 0, -1)[0]
    assert not chain.ran


async def test_key_that_is_broken_there_holds_the_outbox_up_until_somebody_mends_it(
    redis_url: str, caplog: pytest.LogCaptureFixture
):
    chain = Chain(redis_url, redis_url)
    with redis.Redis.from_url(redis_url) as there:
        there.set("{b}:schedule", "no sorted set")
        chain.sends = lambda ctx, number: ctx.schedule(0.01, chain.second.job(number))
        async with chain.working(), chain.app.client() as client:
            await client.enqueue(*(chain.first.job(number) for number in range(5)))
            await until(lambda: "can't be written in shard 'b', it waits in the outbox" in caplog.text)
            assert there.llen("{a}:tw:outbox:b") == 5
            there.delete("{b}:schedule")
            await until(lambda: len(chain.ran) == 5)
    assert set(chain.ran.values()) == {1}


async def test_shard_that_the_app_has_no_more_is_named(redis_url: str, caplog: pytest.LogCaptureFixture):
    with redis.Redis.from_url(redis_url) as there:
        there.sadd("{a}:tw:outboxes", "old")
        there.rpush("{a}:tw:outbox:old", "x")
        async with Chain(redis_url, redis_url).working():
            await until(lambda: "for shard 'old', which this App doesn't have" in caplog.text)


@pytest.mark.parametrize("what", ["a queue in no shard", "a batch over queues that have no shard in common"])
async def test_what_can_lie_nowhere_is_the_failure_of_the_job_that_enqueues_it(redis_url: str, what: str):
    """And of nothing beside it."""
    chain = Chain(redis_url, redis_url)
    batch = Batch("apart")
    batch.add(chain.first.job(1000))
    batch.add(chain.second.job(1001))

    def send(ctx: Context, number: int) -> None:
        if number == 3:
            ctx.enqueue(batch if what.startswith("a batch") else Job("nowhere", "Other"))
        ctx.enqueue(chain.second.job(number))

    chain.sends = send
    async with chain.working() as worker, chain.app.client() as client:
        await client.enqueue(*(chain.first.job(number) for number in range(10)))
        await until(lambda: len(chain.ran) == 9)
        with redis.Redis.from_url(redis_url) as there:
            await until(lambda: there.zcard("{a}:retry") == 1)
            [payload] = there.zrange("{a}:retry", 0, -1)
        assert not worker.stopping
    failed = json.loads(payload)
    assert failed["error_class"] == "trioworkers.BadJob"
    assert "enqueued by this job" in failed["error_message"]
    assert 3 not in chain.ran
