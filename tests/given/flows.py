"""What docs/flows.md takes for granted."""

from typing import Any

from trioworkers import App, Batch, Context, chain, group  # noqa: F401

app = App()
ran: list[tuple[Any, ...]] = []
batch = Batch("of the last example")


def handler(name: str, value: Any = None) -> Any:
    @app.handler("work", name)
    async def work(*args: int) -> Any:
        ran.append((name, *args))
        return value

    return work


publish, clean_up, tell_someone, report = map(handler, ("publish", "clean_up", "tell_someone", "report"))
parse, store, merge = map(handler, ("parse", "store", "merge"))
sync, charge, pack, ship, thank, archive = map(handler, ("sync", "charge", "pack", "ship", "thank", "archive"))
fetch = handler("fetch", ["a row"])


class Row:
    id = 5


async def read_in_pages():
    yield [Row, Row]
    yield [Row]


async def download(page: int) -> list[int]:
    return [page, page + 1]


async def during(names, test):
    """The batch of the second program, with members that add members, and the last one, whose member asks for another one's result."""
    await test.drain()
    assert ran.count(("fetch", 42, 3)) == 1
    assert ran.count(("publish", 42)) == ran.count(("clean_up", 42)) == 1
    assert ("tell_someone", 42) not in ran
    assert ran.count(("sync", 5)) == 3
    assert ran.index(("charge", 7)) < ran.index(("ship", 7)) < ran.index(("thank", 7))
    assert ran.index(("ship", 7)) < ran.index(("archive", 7))
    assert {("parse",), ("store",), ("merge",), ("report", 7)} <= set(ran)
    growing = Batch("it grows", on_success=report.job(9))
    growing.add(names["fetch_page"].job(100))
    await test.enqueue(growing)
    await test.drain()
    assert {("store", 100), ("store", 101), ("report", 9)} <= set(ran)
    using = Batch("results")
    first = using.add(fetch.job(1), name="page 1")
    using.add(names["merge_rows"].job(), after=[first])
    await test.enqueue(using)
    await test.drain()
    assert [each.how for each in test.ran[-2:]] == ["succeeded", "succeeded"]
