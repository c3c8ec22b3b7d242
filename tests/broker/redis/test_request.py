"""One command on its way: how its reply is waited for."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from coredis.exceptions import ConnectionError as CoredisConnectionError
from coredis.exceptions import ResponseError

from trioworkers.broker.redis.connection import connect
from trioworkers.broker.redis.link import Link
from trioworkers.broker.redis.metered import Metered
from trioworkers.broker.redis.request import Request
from trioworkers.broker.redis.scripts import Script
from trioworkers.errors import Unavailable


@pytest.fixture
def request_() -> Request:
    return Request(b"PING")


async def test_a_reply_that_is_there_costs_no_waiting(request_: Request):
    request_.consume(b"PONG")
    with trio.CancelScope() as scope:
        scope.cancel()
        assert await request_.reply(1.0, shield=False) == b"PONG"
    assert not scope.cancelled_caught


@pytest.mark.parametrize("name", [b"PING", "PING"])
async def test_command_is_named_as_it_was_asked(autojump_clock: trio.testing.MockClock, name: bytes | str):
    with pytest.raises(TimeoutError, match=r"PING timed out after 2\.0 seconds"):
        await Request(name).reply(2.0, shield=False)


async def test_a_reply_too_late_can_still_be_had(autojump_clock: trio.testing.MockClock, request_: Request):
    with pytest.raises(TimeoutError, match=r"PING timed out after 2\.0 seconds"):
        await request_.reply(2.0, shield=True)
    assert (trio.current_time(), request_.complete) == (2, False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_reply_later, request_)
        assert await request_.reply(2.0, shield=True) == b"PONG"
    assert trio.current_time() == 3


async def _reply_later(request_: Request) -> None:
    await trio.sleep(1)
    request_.consume(b"PONG")


async def test_shielded_it_waits_on_when_it_is_cancelled(autojump_clock: trio.testing.MockClock, request_: Request):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_reply_later, request_)
        with trio.CancelScope() as scope:
            scope.cancel()
            assert await request_.reply(2.0, shield=True) == b"PONG"


async def test_else_the_waiting_ends_at_once(autojump_clock: trio.testing.MockClock, request_: Request):
    with trio.CancelScope() as scope:
        scope.cancel()
        await request_.reply(2.0, shield=False)
    assert (scope.cancelled_caught, trio.current_time(), request_.complete) == (True, 0, False)


async def test_what_redis_answers_as_an_error_is_raised_each_time(request_: Request):
    request_.consume(ResponseError("ERR no"))
    for _ in range(2):
        with pytest.raises(ResponseError, match="ERR no"):
            await request_.reply(1.0, shield=True)


async def test_only_the_first_reply_counts(request_: Request):
    request_.consume(b"PONG")
    request_.fail(CoredisConnectionError("lost"))
    assert await request_.reply(1.0, shield=True) == b"PONG"


async def test_no_call_is_given_up_once_it_is_sent(redis_url: str, monkeypatch: pytest.MonkeyPatch):
    """Each way to ask waits for its reply, whoever is cancelled meanwhile: what was not awaited would be somebody else's reply."""
    scopes = [trio.CancelScope() for _ in range(4)]
    send = Metered.send_at_once

    def send_and_cancel(self: Metered, data: bytes) -> bool:
        done = send(self, data)
        for scope in scopes:
            if scope._has_been_entered:
                scope.cancel()
        return done

    script = Script("answer", (b"return ARGV[1]",), args=("what",))
    async with connect(redis_url, Link(redis_url)) as connection:
        await connection.execute("", b"PING")
        monkeypatch.setattr(Metered, "send_at_once", send_and_cancel)
        with scopes[0]:
            assert await connection.run(script, [], ["a"]) == b"a"
        with scopes[1]:
            assert await connection.execute_many("", [(b"ECHO", ("b",)), (b"ECHO", ("c",))]) == [b"b", b"c"]
        with scopes[2]:
            assert await connection.commands("").get("{none}") is None
        with scopes[3]:
            assert await connection.execute_all("", (b"ECHO", ("d",)), (b"ECHO", ("e",))) == [b"d", b"e"]
        assert [(scope.cancel_called, scope.cancelled_caught) for scope in scopes] == [(True, False)] * 4
        assert await connection.execute("", b"ECHO", "f") == b"f"


async def test_nothing_is_asked_over_a_connection_that_is_gone(redis_url: str):
    async with connect(redis_url, Link(redis_url)) as connection:
        await connection.execute("", b"PING")
        epoch = connection._epoch
        assert epoch is not None
        assert epoch._connection is not None
        epoch._connection.invalidate()
        with pytest.raises(CoredisConnectionError, match="gone"):
            epoch._connection.ask(b"PING")
        assert await connection.execute("", b"ECHO", "again") == b"again"
        with pytest.raises(Unavailable):
            connection._epoch.retired.set()
            await connection._epoch.execute(b"PING")
