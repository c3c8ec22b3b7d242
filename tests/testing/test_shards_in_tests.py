"""The test kit with an App of several Redises: in which of them jobs are, and what would be refused there."""

from __future__ import annotations

from collections import Counter

import pytest
import trio.testing

from trioworkers import App, BadJob, Batch, Context, Job, Shard, testing


class Shop:
    """Orders lie in both shards, mail in one."""

    def __init__(self) -> None:
        self.app = App(shards={name: Shard("redis://127.0.0.1:1", namespace=name) for name in "ab"})
        self.app.queue("orders", shards=["a", "b"])
        self.app.queue("mail", shards=["b"])
        self.app.queue("stock", shards=["a"])
        self.order = self.app.handler("orders", "Order", retry=0)(self._order)
        self.mail = self.app.handler("mail", "Mail")(self._nothing)
        self.stock = self.app.handler("stock", "Stock")(self._nothing)

    async def _order(self, ctx: Context, what: str) -> None:
        if what == "more":
            ctx.enqueue(self.order.job("one"), self.mail.job("sent"))
        if what == "nowhere":
            ctx.enqueue(Job("lost", "Lost"))

    async def _nothing(self, what: str) -> None: ...


@pytest.fixture
def shop() -> Shop:
    return Shop()


async def test_jobs_are_in_the_shards_of_their_queues(shop: Shop, autojump_clock: trio.testing.MockClock):
    async with testing.run(shop.app) as test:
        await test.enqueue(shop.mail.job("sent"), shop.stock.job("less"), *(shop.order.job("one") for _ in range(50)))
        test.assert_enqueued("Mail", shard="b", count=1)
        test.assert_enqueued("Stock", shard="a", count=1)
        test.refute_enqueued("Mail", shard="a")
        counts = Counter(map(test.shard_of, test.assert_enqueued("Order", count=50)))
        assert {*counts} == {"a", "b"}
        assert len(test.assert_enqueued("Order", shard="a")) == counts["a"]
        with pytest.raises(
            AssertionError, match=r"(?s)Mail in shard 'a'; .*Mail on mail with \['sent'\], in shard 'b'"
        ):
            test.assert_enqueued("Mail", shard="a")


async def test_what_a_job_enqueues_stays_in_its_shard_or_goes_where_its_queue_is(
    shop: Shop, autojump_clock: trio.testing.MockClock
):
    async with testing.run(shop.app) as test:
        parents = await test.enqueue(*(shop.order.job("more") for _ in range(20)))
        await test.drain()
        homes = Counter(test.shard_of(job) for job in test.assert_enqueued("Order", args=["more"]))
        assert Counter(test.shard_of(job) for job in test.assert_enqueued("Order", args=["one"])) == homes
        test.assert_enqueued("Mail", shard="b", count=len(parents))
        assert Counter(ran.how for ran in test.ran) == {"succeeded": 60}


async def test_what_can_lie_nowhere_is_refused_as_by_redis(shop: Shop, autojump_clock: trio.testing.MockClock):
    apart = Batch("apart")
    apart.add(shop.mail.job("sent"))
    apart.add(shop.stock.job("less"))
    async with testing.run(shop.app) as test:
        for job in (Job("lost", "Lost"), apart):
            with pytest.raises(BadJob, match="shard"):
                await test.client.enqueue(job)
        with pytest.raises(BadJob, match="shard"):
            async with test.client.batch("open", on_success=shop.mail.job("all")) as batch:
                await batch.add(shop.stock.job("less"))
        with pytest.raises(BadJob, match="is in no shard"):
            await test.perform(shop.order, "nowhere")
        assert [each.job for each in test._broker.sent_jobs.sent] == []
        await test.enqueue(shop.order.job("nowhere"))
        await test.drain()
        [ran] = test.ran
        assert ran.how == "dead"
        [dead] = test.dead_payloads
        assert b"refused: trioworkers.BadJob: queue 'lost' is in no shard" in dead


async def test_batch_is_in_one_shard(shop: Shop, autojump_clock: trio.testing.MockClock):
    batch = Batch("together")
    for _ in range(20):
        batch.add(shop.order.job("one"))
    async with testing.run(shop.app) as test:
        await test.client.enqueue(batch)
        async with test.client.batch("open", on_success=shop.mail.job("all")) as streamed:
            await streamed.add(*(shop.order.job("two") for _ in range(20)))
        for what in ("one", "two"):
            assert len({test.shard_of(job) for job in test.assert_enqueued("Order", args=[what], count=20)}) == 1
        test.assert_enqueued("Order", args=["two"], shard="b", count=20)
        await test.drain()


@pytest.mark.parametrize("door", ["sync_client", "asyncio_client"])
def test_recorded_jobs_say_in_which_shard_they_are(shop: Shop, door: str, sent_jobs: testing.Recorded):
    import asyncio  # noqa: PLC0415 - of one of them only

    client = getattr(shop.app, door)()
    sent = client.enqueue(shop.mail.job("sent"), shop.stock.job("less"))
    if door == "asyncio_client":
        asyncio.run(sent)
    sent_jobs.assert_enqueued("Mail", shard="b", count=1)
    sent_jobs.assert_enqueued("Stock", shard="a", count=1)
    sent_jobs.refute_enqueued("Stock", shard="b")
