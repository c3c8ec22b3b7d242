"""What commands are made of: names go back to Redis as they came from it, and who asks for what has no bytes hears of it, and nobody else."""

from __future__ import annotations

import pytest
import trio

from trioworkers.broker.redis.connection import Connection, connect
from trioworkers.broker.redis.link import Link
from trioworkers.broker.redis.metered import Metered

NO_TEXT = b"\xff\xfe \x00 no text"
HALF = "\ud800"
"""Half a character: it has no form in UTF-8, nor was it made of bytes that are none."""


@pytest.fixture(params=[True, False], ids=["written at once", "written by the task that writes"])
async def connection(redis_url: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    """The second is what a busy connection does, and one over TLS always."""
    if not request.param:
        monkeypatch.setattr(Metered, "may_write", False)
    async with connect(redis_url, Link(redis_url)) as connection:
        yield connection


async def test_name_that_is_no_text_goes_back_as_it_came(connection: Connection):
    name = NO_TEXT.decode(errors="surrogateescape")
    await connection.execute("", b"SET", name, name)
    assert await connection.execute("", b"GET", NO_TEXT) == NO_TEXT
    assert await connection.commands("").get(name) == NO_TEXT


async def test_what_has_no_bytes_fails_who_asks_for_it_and_nobody_else(connection: Connection):
    answers: list[bytes] = []

    async def ask(word: str) -> None:
        answers.append(await connection.execute("", b"ECHO", word))

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(ask, str(number))
            with pytest.raises(UnicodeEncodeError):
                await ask(HALF)
    assert sorted(map(int, answers)) == [*range(20)]
    assert connection.link.outages == 0
