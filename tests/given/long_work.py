"""What docs/long-work.md takes for granted."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

from trioworkers import App, Context

app = App()
done: list[Any] = []
failures = [ValueError("the mail server is away")]


class Customer:
    def __init__(self, number: int) -> None:
        self.id = number


class database:  # noqa: N801 - stands for yours
    @staticmethod
    async def query(text: str, after: int) -> AsyncIterator[Customer]:
        for number in range(after + 1, 5):
            yield Customer(number)


async def charge_card(ctx: Context, order_id: int) -> str:
    done.append(("charged", order_id))
    return f"charge of {order_id}"


async def send_receipt(ctx: Context, order_id: int, charge: str) -> None:
    if failures:
        raise failures.pop()
    done.append(("mailed", charge))


async def save(line: str) -> None:
    done.append(line.strip())


async def import_page(page: int) -> None:
    if page == 2 and failures:
        raise failures.pop()
    done.append(page)


async def during(names, test):
    await test.enqueue(names["place_order"].job(7))
    await test.drain(retries=True)
    assert done == [("charged", 7), ("mailed", "charge of 7")]
    Path("customers.csv").write_text("Ada\nBob\n")
    await test.enqueue(names["import_customers"].job("customers.csv"))
    await test.drain()
    assert done[2:] == ["Ada", "Bob"]
    failures.append(ValueError("the second page is not there yet"))
    told = []
    with patch.object(Context, "progress", lambda _, *words: told.append(words)):
        await test.enqueue(names["import_and_tell"].job(3))
        await test.drain(retries=True)
    assert done[4:] == [1, 2, 3]
    assert told == [(1, 3, "pages"), (2, 3, "pages"), (3, 3, "pages")]
    assert [(cursor, row.id) async for cursor, row in names["customers"](2)] == [(3, 3), (4, 4)]
