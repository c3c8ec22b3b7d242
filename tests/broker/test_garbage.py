"""Whatever somebody wrote to a key of ours costs a line in the log, and no more: jobs are run, what is due is promoted, the dead are reclaimed."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable

import pytest
import trio
from garbage import BYTES, OURS, SHAPES, WRITE, key_of
from servers import Server

from trioworkers import App, Context, FleetLimit
from trioworkers.broker.contract import Holder, Settlement
from trioworkers.broker.moves import RedisBroker
from trioworkers.broker.people.inspection import Inspector
from trioworkers.broker.presence import Presence
from trioworkers.broker.redis.connection import connect
from trioworkers.broker.redis.link import Link
from trioworkers.outcome import Acknowledge
from trioworkers.registry import Key
from trioworkers.wire.keys import Keys
from trioworkers.wire.numbers import count_in

NEEDED = {"tw:lease:PROCESS", "tw:inprogress", "tw:parked"}
"""Without them nobody can say who runs what: of the wrong type, they keep a worker from fetching, and the log says why."""


def payload(number: int) -> str:
    return json.dumps({"class": "Note", "args": [number], "jid": f"jid{number}", "queue": "q"})


AT_ONCE = 12
"""Workers in one test, each with a namespace and a key of its own: mostly they wait, for a lease of the dead to be over."""


def groups(keys: list[Key]) -> list[list[Key]]:
    return [keys[first : first + AT_ONCE] for first in range(0, len(keys), AT_ONCE)]


async def note_what_is_done(server: Server, namespace: str, ran: set[int]) -> None:
    """What a worker runs: of a queue, of the schedule, of a worker that died."""
    server.command("LPUSH", f"{namespace}:queue:q", payload(0))
    server.command("ZADD", f"{namespace}:schedule", 1, payload(1))
    server.command("HSET", f"{namespace}:tw:inprogress", f"{namespace}:queue:q:dead:inprogress", "dead q")
    server.command("LPUSH", f"{namespace}:queue:q:dead:inprogress", payload(2))
    app, done = App(server.url, process_id="w1", lease=1.0, namespace=namespace), trio.Event()
    app.queue("other")

    @app.handler("other", "Limited", limit=FleetLimit("crm", concurrency=1))
    async def limited(ctx: Context) -> None: ...

    @app.handler("q", "Note")
    async def note(ctx: Context, number: int) -> None:
        ran.add(number)
        if len(ran) == 3:
            done.set()

    async with trio.open_nursery() as nursery:
        await nursery.start(app.serve)
        with trio.move_on_after(120):
            await done.wait()
        nursery.cancel_scope.cancel()


async def expect_all_done(server: Server, keys: list[Key], write: Callable[[Key], tuple[object, ...]]) -> None:
    """Each key holds garbage, written so, before the worker of its namespace starts."""
    ran: dict[str, set[int]] = {key.name: set() for key in keys}
    async with trio.open_nursery() as nursery:
        for number, key in enumerate(keys):
            command, *words = write(key)
            server.command(command, f"n{number}:{key_of(key.name)}", *words)
            nursery.start_soon(note_what_is_done, server, f"n{number}", ran[key.name])
    assert ran == {key.name: {0, 1, 2} for key in keys}


@pytest.mark.parametrize(
    "keys", groups([key for key in OURS if key.name != "tw:lease:PROCESS"]), ids=lambda keys: keys[0].name
)
async def test_garbage_of_the_right_type_stops_nothing(server: Server, keys: list[Key]):
    await expect_all_done(server, keys, lambda key: WRITE[key.type])


STRINGS = [key for key in OURS if key.type == "string" and key.name != "tw:lease:PROCESS"]


@pytest.mark.parametrize("keys", groups(STRINGS), ids=lambda keys: keys[0].name)
@pytest.mark.parametrize("text", [SHAPES[2], SHAPES[3], b"1", b"[]", b'{"class":1}', b"a b c"], ids=repr)
async def test_any_text_stops_nothing(server: Server, keys: list[Key], text: bytes):
    await expect_all_done(server, keys, lambda key: ("SET", text))


@pytest.mark.parametrize("keys", groups([key for key in OURS if key.name not in NEEDED]), ids=lambda keys: keys[0].name)
async def test_key_of_the_wrong_type_stops_nothing(server: Server, keys: list[Key]):
    await expect_all_done(server, keys, lambda key: WRITE["set" if key.type != "set" else "list"])


THEIRS = (
    "processes",
    "retry",
    "dead",
    "paused",
    "stat:processed",
    "stat:failed",
    "queue:other",
    "queue:other:w1:inprogress",
)
"""Sidekiq's own, and go-workers', of which what runs here needs none."""


@pytest.mark.parametrize("command", ["LPUSH", "SADD"])
async def test_sidekiq_s_key_of_the_wrong_type_stops_nothing_else(server: Server, command: str):
    ran: dict[str, set[int]] = {name: set() for name in THEIRS}
    async with trio.open_nursery() as nursery:
        for number, name in enumerate(THEIRS):
            right = {"queue:": "LPUSH", "proces": "SADD", "paused": "SADD"}.get(name[:6])
            server.command(
                *(("SET", f"n{number}:{name}", "") if right == command else (command, f"n{number}:{name}", BYTES))
            )
            nursery.start_soon(note_what_is_done, server, f"n{number}", ran[name])
    assert ran == {name: {0, 1, 2} for name in THEIRS}


async def test_a_line_says_what_people_want_and_nobody_can_read(server: Server, caplog: pytest.LogCaptureFixture):
    server.command("SET", "paused", "no set")
    async with connect(server.url, Link("")) as connection:
        broker = RedisBroker(connection, Keys(), Holder("w1", "l", 1000))
        with caplog.at_level(logging.WARNING, "trioworkers"):
            for _ in range(3):
                due = await broker.due(10)
    assert due.paused_queues == frozenset()
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("what is due, or what people want, can't be read: paused: WRONGTYPE")


@pytest.mark.parametrize("text", ["many", "-1", "1.5", "", "9" * 5000, b"\xff", " 1"], ids=lambda text: repr(text)[:20])
async def test_crash_count_that_is_no_number_begins_anew(
    server: Server, text: str | bytes, caplog: pytest.LogCaptureFixture
):
    server.command("HSET", "tw:crashes", "jid0", text, "jid1", 2)
    async with connect(server.url, Link("")) as connection:
        broker = RedisBroker(connection, Keys(), Holder("w2", "l", 1000))
        with caplog.at_level(logging.WARNING, "trioworkers"):
            assert await broker.crashes(["jid0", "jid1", "jid2"]) == {"jid0": 0, "jid1": 2}
        assert ["it starts again" in record.getMessage() for record in caplog.records] == [True]
        assert await Inspector(connection, Keys()).crashes("jid0") == 0
        server.command("LPUSH", "queue:q:w1:inprogress", payload(0))
        assert await broker.reclaim("w1", "q", [(payload(0).encode(), "jid0", 1, None)]) == (1, "")
        assert await broker.crashes(["jid0"]) in ({"jid0": 1}, {"jid0": 0})  # -1 is a number to Redis
    assert server.command("LLEN", "queue:q") == 1


async def test_notes_of_suspects_that_are_no_utf_8_are_read(server: Server):
    server.command("HSET", "tw:suspects:w1", BYTES, BYTES, "jid0", "alone")
    async with connect(server.url, Link("")) as connection:
        started = await RedisBroker(connection, Keys(), Holder("w2", "l", 1000)).started("w1")
        assert (started["jid0"], list(started.values())) == (True, [False, True])


@pytest.mark.parametrize("stored", [b"garbage", BYTES, b"", b"\x93\x01\x02\x03", b"\xc1"], ids=repr)
async def test_garbage_about_the_last_group_is_no_last_group(server: Server, stored: bytes):
    server.command("SET", "tw:settled:w1", stored)
    server.command("LPUSH", "queue:q:w1:inprogress", payload(0))
    async with connect(server.url, Link("")) as connection:
        broker = RedisBroker(connection, Keys(), Holder("w1", "l", 30_000))
        server.command("SET", "tw:lease:w1", "l")
        assert await broker.settle(1, [Settlement("q", payload(0).encode(), Acknowledge())]) == {}
    assert server.command("LLEN", "queue:q:w1:inprogress") == 0


async def test_lease_that_nobody_of_ours_wrote_is_taken_when_it_proves_silent(server: Server):
    server.command("SET", "tw:lease:w1", BYTES, "PX", 60_000)
    async with connect(server.url, Link("")) as connection:
        broker = RedisBroker(connection, Keys(), Holder("w1", "ours", 600))
        with trio.fail_after(30):
            await Presence(broker, "me", ["q"]).claim()
        last_group = await connection.commands("what stays of it").get("tw:settled:w1")
    assert server.command("GET", "tw:lease:w1") in ("ours", None)  # it may have run out again
    assert last_group is not None
    assert b"ours" in last_group


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (b"0", 0),
        (b"12", 12),
        (None, None),
        (b"", None),
        (b"-1", None),
        (b"1.0", None),
        (b" 1", None),
        (b"\xb2", None),
        (b"9" * 19, None),
    ],
)
def test_counts_are_whole_and_bounded(text: bytes | None, count: int | None):
    assert count_in(text) == count
