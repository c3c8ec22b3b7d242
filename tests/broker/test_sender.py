"""Calls that may be repeated: carried out once, however late a copy comes, and whatever this machine's clock says."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest
from servers import Server

from trioworkers import Job, Refused
from trioworkers.broker.enqueue import ENQUEUE
from trioworkers.broker.redis.connection import connect
from trioworkers.broker.redis.link import Link
from trioworkers.broker.sender import Sender
from trioworkers.send import Send
from trioworkers.sending import PARCEL_JOBS, Call
from trioworkers.wire.dialect import SIDEKIQ

KEYS = SIDEKIQ.keys("")


@pytest.fixture
async def sender(redis_url: str) -> AsyncIterator[Sender]:
    async with connect(redis_url, Link(redis_url)) as connection:
        yield Sender(connection, KEYS)


def sends(count: int) -> list[Send]:
    return [Send(Job("q", "Work", [n])) for n in range(count)]


def waiting(server: Server) -> int:
    return int(str(server.command("LLEN", "queue:q")))


async def test_repeated_call_is_carried_out_once(sender: Sender, shared_server: Server):
    many = sends(PARCEL_JOBS + 1)
    for _ in range(3):
        await sender.send(many, "token")
    assert waiting(shared_server) == PARCEL_JOBS + 1


async def test_repeated_call_has_the_answer_of_the_first(sender: Sender, shared_server: Server):
    """Some were refused, others not: who asks again must not hear that all went well."""
    good, bad = (next(sender.sending.parcels([Send(Job(queue, "Work"))], time.time())) for queue in ("q", "taken"))
    shared_server.command("SET", "queue:taken", "no list")
    call = sender.sending.repeatable(good, "token", 0, time.time())
    both = Call(call.keys, [*call.args, bad])
    first = await sender.connection.run(ENQUEUE, both.keys, both.args)
    assert (first[0], b"WRONGTYPE" in first[1]) == (b"", True)
    assert await sender.connection.run(ENQUEUE, both.keys, both.args) == first
    assert waiting(shared_server) == 1


async def test_late_copy_is_refused_when_its_token_is_forgotten(sender: Sender, shared_server: Server):
    """A connection broke, its bytes are read minutes later; meanwhile the call was repeated, and the token has aged."""
    (parcel,) = sender.sending.parcels(sends(1), time.time())
    old = sender.sending.repeatable(parcel, "token", 0, time.time() - 121)
    await sender.send(sends(1), "token")
    shared_server.command("DEL", "tw:sent:token")
    with pytest.raises(Refused, match="LATE"):
        await sender.connection.run(ENQUEUE, old.keys, old.args)
    assert waiting(shared_server) == 1


@pytest.mark.parametrize("wrong_by_s", [-86_400.0, -100.0, 100.0, 86_400.0])
async def test_wrong_clock_is_set_and_the_call_made_anew(sender: Sender, shared_server: Server, wrong_by_s: float):
    sender.clock.set(time.time() + wrong_by_s)
    await sender.send(sends(2), "token")
    await sender.send(sends(2), "token")
    assert waiting(shared_server) == 2
    assert abs(sender.clock.now_s() - time.time()) < 10


async def test_plain_call_needs_no_clock(sender: Sender, shared_server: Server):
    sender.clock.set(1.0)
    await sender.send(sends(1))
    assert (waiting(shared_server), shared_server.command("KEYS", "tw:*")) == (1, [])


@pytest.mark.parametrize("left_there", ["garbage", "1", "\x93\x01"])
async def test_garbage_under_the_token_is_an_error_not_a_success(
    sender: Sender, shared_server: Server, left_there: str
):
    shared_server.command("SET", "tw:sent:token", left_there)
    with pytest.raises(Refused, match="holds no answer"):
        await sender.send(sends(1), "token")
    assert waiting(shared_server) == 0
