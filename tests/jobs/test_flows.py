"""Members of a batch that use each other's results, on the virtual clock; the example of docs/flows.md grows from one job to a graph."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from trioworkers import App, BadJob, Batch, Bury, Context, Job, JobGone, RetryAfter, chain, group, testing
from trioworkers.wire.encode import encode

app = App()
seen: list[Any] = []


@app.handler("q")
async def fetch(page: int) -> list[int]:
    seen.append(("fetch", page))
    return [page, page * 10]


@app.handler("q")
async def parse(ctx: Context, *names: str) -> dict[str, int]:
    found = [number for name in names for number in await ctx.result(name)]
    if ctx.attempt == 1:
        raise RetryAfter(1)
    return {"sum": sum(found)}


@app.handler("q")
async def report(ctx: Context) -> None:
    seen.append(("report", await ctx.result("parsed")))
    with pytest.raises(JobGone, match="nobody"):
        await ctx.result("nobody")


@app.handler("q")
async def note(ctx: Context, what: str) -> None:
    seen.append(what)
    if ctx.batch is None:
        with pytest.raises(RuntimeError, match="in none"):
            await ctx.result("x")


@app.handler("q")
async def fail() -> None:
    raise Bury("no")


@pytest.fixture(autouse=True)
def fresh() -> None:
    seen.clear()


async def test_results_of_those_before_are_there_by_name(autojump_clock: Any):
    async with testing.run(app) as test:
        batch = Batch("import", on_success=note.job("success"))
        pages = [batch.add(fetch.job(page), name=f"page {page}") for page in (1, 2)]
        parsed = batch.add(parse.job("page 1", "page 2"), name="parsed", after=pages)
        batch.add(report.job(), after=[parsed])
        assert await test.enqueue(batch) == [batch.id]
        await test.drain(retries=True)
    assert sorted(map(str, seen[:2])) == ["('fetch', 1)", "('fetch', 2)"]
    assert seen[2:] == [("report", {"sum": 33}), "success"]
    assert test.dead == []


async def test_graph_that_grows_from_inside_reads_results_by_name(
    autojump_clock: Any, caplog: pytest.LogCaptureFixture
):
    growing = App()

    @growing.handler("q", "Grow", retry=0)
    async def grow(ctx: Context, depth: int) -> int:
        if depth and ctx.batch is not None:
            first = ctx.batch.add(grow.job(depth - 1), name=f"depth {depth - 1}")
            ctx.batch.add(add.job(depth), after=[first])
        return depth * 10

    @growing.handler("q", "Add")
    async def add(ctx: Context, depth: int) -> None:
        seen.append((await ctx.result(f"depth {depth}"), await ctx.result(f"depth {depth - 1}")))

    @growing.handler("q", "Done")
    async def done() -> None:
        seen.append("done")

    async with testing.run(growing) as test:
        batch = Batch(on_success=done.job())
        batch.add(grow.job(3), name="depth 3")
        await test.enqueue(batch)
        await test.drain()
        assert (sorted(seen[:-1]), seen[-1]) == ([(10, 0), (20, 10), (30, 20)], "done")
        twice = Batch(on_success=done.job())
        twice.add(grow.job(1), grow.job(1))  # both add a member of one name
        await test.enqueue(twice)
        await test.drain()
        assert len(test.dead) == 1
        assert "has a member named depth 0 already" in caplog.text


async def test_chain_and_group(autojump_clock: Any):
    async with testing.run(app) as test:
        await test.enqueue(chain(note.job("a"), note.job("b"), note.job("c"), on_finished=note.job("end")))
        await test.drain()
        assert seen == ["a", "b", "c", "end"]
        seen.clear()
        await test.enqueue(group(note.job("a"), note.job("b")).then(note.job("c"), note.job("d")))
        await test.drain()
        assert (set(seen[:2]), set(seen[2:])) == ({"a", "b"}, {"c", "d"})
        seen.clear()
        await test.enqueue(
            chain(note.job("a"), fail.job(), note.job("never"), on_failure="cancel", on_death=note.job("death"))
        )
        await test.drain()
        assert seen == ["a", "death"]


async def test_batch_is_sent_and_grows_from_inside(autojump_clock: Any):
    inside = App()

    @inside.handler("q")
    async def grow(ctx: Context, left: int) -> None:
        seen.append(left)
        assert ctx.batch is not None
        if left:
            ctx.batch.add(grow.job(left - 1))
        elif left == 0 and ctx.attempt == 1:
            inner = Batch()
            inner.add(tell.job("inner"))
            ctx.batch.add(inner)

    @inside.handler("q")
    async def tell(what: str) -> None:
        seen.append(what)

    @inside.handler("q")
    async def begin(ctx: Context) -> None:
        batch = Batch(on_success=tell.job("success"))
        batch.add(grow.job(3))
        ctx.enqueue(batch)

    async with testing.run(inside) as test:
        await test.enqueue(begin.job())
        await test.drain()
    assert seen == [3, 2, 1, 0, "inner", "success"]


async def test_what_waits_of_a_cancelled_batch_does_not_run(autojump_clock: Any):
    slow = App()
    slow.queue("q", concurrency=2)
    began: list[int] = []

    @slow.handler("q", "Works")
    async def works(number: int) -> None:
        began.append(number)
        await trio.sleep(10)

    @slow.handler("q", "Ends")
    async def ends() -> None:
        began.append(-1)

    async with testing.run(slow) as test:
        with pytest.raises(KeyError):
            async with test.client.batch(on_finished=ends.job()) as batch:
                await batch.add(*(works.job(number) for number in range(50)))
                await trio.sleep(5)
                raise KeyError
        await test.enqueue(works.job(100))  # of no batch
        await test.drain()
        assert began in ([0, 1, 100, -1], [0, 1, -1, 100])
        assert test.dead == []


def test_names_that_can_not_be_are_refused():
    batch = Batch()
    batch.add(note.job("a"), name="a")
    for bad in ("x" * 65, "new\nline", 7):
        with pytest.raises(BadJob, match="name"):
            batch.add(note.job("b"), name=bad)  # type: ignore[arg-type] - that is tried
    with pytest.raises(BadJob, match="already"):
        batch.add(note.job("b"), name="a")
    with pytest.raises(BadJob, match="one job"):
        batch.add(note.job("b"), note.job("c"), name="b")
    assert len(batch) == 1


def test_member_must_be_one_that_tells_how_it_ended():
    batch = Batch(on_success=Job("default", "RubyJob"))
    with pytest.raises(BadJob, match=r"RubyJob: a batch ends when its members tell .* callback"):
        batch.add(Job("default", "RubyJob"))
    batch.add(Job("q", "Elsewhere", runs_here=True), note.job("built by its handler"))
    assert len(batch) == 2
    assert all(member.runs_here and b"runs_here" not in encode(member, 0.0) for member in batch.members())


@pytest.mark.parametrize("result", [{1, object()}, float("nan"), "x" * 70_000])
async def test_member_with_a_name_must_return_what_can_be_kept(autojump_clock: Any, result: Any):
    bad, ran = App(), []

    @bad.handler("q", "Returns", retry=False)
    async def returns() -> Any:
        return result

    @bad.handler("q", "After")
    async def after() -> None:
        ran.append("after")

    async with testing.run(bad) as test:
        batch = Batch(on_success=after.job())
        batch.add(returns.job(), name="page 1")
        await test.enqueue(batch)
        await test.drain()
        assert ran == []
        assert [each.how for each in test.ran] == ["discarded"]
        plain = Batch(on_success=after.job())
        plain.add(returns.job())  # nobody can ask for it
        await test.enqueue(plain)
        await test.drain()
        assert ran == ["after"]


async def test_member_with_a_foreign_bid_runs_and_counts(autojump_clock: Any):
    foreign, ran = App(), []

    @foreign.handler("q", "After")
    async def after() -> None:
        ran.append("after")

    async with testing.run(foreign) as test:
        batch = Batch(on_success=after.job())
        batch.add(Job("q", "After", runs_here=True, extra={"bid": "W3JpoYBDwpk9aA"}))
        await test.enqueue(batch)
        await test.drain()
    assert ran == ["after", "after"]
