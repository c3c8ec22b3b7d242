"""Large payloads are settled without Lua looking at them: by the same rules, and as one step."""

from __future__ import annotations

import random
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import count

import pytest
from coredis import PureToken
from servers import Server

from trioworkers import Refused, Superseded, Unavailable
from trioworkers.broker.contract import Holder, Settlement
from trioworkers.broker.moves import RedisBroker
from trioworkers.broker.redis.connection import Link, connect
from trioworkers.broker.settle_large import SETTLE_LARGE_FROM_BYTES
from trioworkers.outcome import ACKNOWLEDGE
from trioworkers.wire.keys import Keys

NUMBERS = count(1)
LIST = "queue:q:owner:inprogress"
LEASE = "tw:lease:owner"


@pytest.fixture
async def owner(redis_url: str) -> AsyncIterator[RedisBroker]:
    async with connect(redis_url, Link(redis_url)) as connection:
        yield RedisBroker(connection, Keys(), Holder("owner", "lease of owner", 30_000))


@pytest.fixture
def full(shared_server: Server) -> Iterator[None]:
    """A Redis that takes nothing more."""
    yield
    shared_server.command("CONFIG", "SET", "maxmemory", "0")


def payloads(number: int, size: int = SETTLE_LARGE_FROM_BYTES) -> list[bytes]:
    return [b'{"jid":"%08d","args":"%s"}' % (each, b"x" * size) for each in range(number)]


async def run(owner: RedisBroker, payloads: Sequence[bytes], key: str = LIST) -> None:
    """Have payloads in progress, oldest first."""
    await owner.connection.call("push", lambda client: client.lpush(key, payloads))


async def running(owner: RedisBroker, key: str = LIST) -> list[bytes]:
    """What is in progress, oldest first."""
    return list(await owner.connection.call("list", lambda client: client.lrange(key, 0, -1)))[::-1]


def done(payloads: Sequence[bytes], queue: str = "q") -> list[Settlement]:
    return [Settlement(queue, payload, ACKNOWLEDGE) for payload in payloads]


@pytest.mark.parametrize("is_full", [False, True])
async def test_group_leaves_its_lists_and_the_rest_keeps_its_order(
    owner: RedisBroker, shared_server: Server, full: None, is_full: bool
):
    chance = random.Random(3)
    p, others = payloads(60), payloads(20, 2 * SETTLE_LARGE_FROM_BYTES)
    p[20:20] = [b"twice", b"x", b"twice"]
    await run(owner, p)
    await run(owner, others, "queue:other:owner:inprogress")
    chosen = chance.sample([each for each in p if len(each) > 9], 30)
    group = [*done([*chosen, b"gone", b"twice"]), *done([*others, b"gone"], "other")]
    chance.shuffle(group)
    group.insert(0, group.pop(next(index for index, each in enumerate(group) if len(each.payload) > 9)))
    await owner.settle(next(NUMBERS), done(p[:1]) if p[0] not in chosen else done(payloads(1, 99_999)))
    if is_full:
        shared_server.command("CONFIG", "SET", "maxmemory", "1mb")
    shared_server.command("CONFIG", "RESETSTAT")
    problems = await owner.settle(next(NUMBERS), group)
    assert problems == {place: "gone" for place, each in enumerate(group) if each.payload == b"gone"}
    stats = str(shared_server.command("INFO", "commandstats"))
    assert f"cmdstat_lrem:calls={len(group)}," in stats
    # A full Redis takes no MULTI: there it is one script, by its digest or, if nobody has used it yet, by its text.
    ran = sum(map(int, re.findall(r"cmdstat_eval(?:sha)?:calls=(\d+)", stats)))
    failed = sum(map(int, re.findall(r"cmdstat_evalsha:.*?failed_calls=(\d+)", stats)))
    assert ran - failed == (1 if is_full else 2)
    shared_server.command("CONFIG", "SET", "maxmemory", "0")
    settled = {*chosen, p[0]}
    left = [each for each in p if each not in settled and each != b"twice"]
    assert [each for each in await running(owner) if each != b"twice"] == left
    assert (await running(owner)).count(b"twice") == 1
    assert await running(owner, "queue:other:owner:inprogress") == []
    assert shared_server.command("GET", "stat:processed") == str(len(settled) + 1 + len(others))
    assert [key for key in shared_server.command("KEYS", "*") if "apart" in key] == []


async def test_group_is_written_once_however_often_it_arrives(owner: RedisBroker, shared_server: Server):
    p = payloads(3)
    await run(owner, [*p, *p])
    old, newer = next(NUMBERS), next(NUMBERS)
    for _ in range(2):
        assert await owner.settle(old, done(p)) == {}
    assert await running(owner) == p
    assert await owner.settle(newer, []) == {}
    with pytest.raises(Refused, match="LATE"):
        await owner.settle(old, done(p))
    assert await running(owner) == p
    assert shared_server.command("GET", "stat:processed") == "3"
    assert await owner.settle(next(NUMBERS), done(p)) == {}
    assert shared_server.command("KEYS", "queue:*") == []


@pytest.mark.parametrize("repeated", ["as large", "by one script"])
async def test_of_a_group_whose_reply_is_lost_the_log_says_how_many_were_not_ours_and_among_whom_they_are(
    owner: RedisBroker, caplog: pytest.LogCaptureFixture, repeated: str
):
    p, number = payloads(60), next(NUMBERS)
    await run(owner, p[2:])
    assert await owner.settle(number, done(p)) == {0: "gone", 1: "gone"}
    assert caplog.text == ""
    if repeated == "by one script":
        owner.connection.link.pace.failed()
    assert await owner.settle(number, done(p)) == {}
    [line] = caplog.messages
    assert line.startswith("2 of 60 jobs that succeeded were no longer ours")
    assert line.endswith("00000048, 00000049 and 10 more")


async def test_who_has_lost_the_lease_takes_nothing(owner: RedisBroker, shared_server: Server):
    p = payloads(3)
    await run(owner, p)
    shared_server.command("SET", LEASE, "another")
    with pytest.raises(Superseded):
        await owner.settle(next(NUMBERS), done(p))
    assert await running(owner) == p
    assert shared_server.command("EXISTS", "stat:processed") == 0


async def test_step_goes_on_where_redis_has_forgotten_its_scripts(owner: RedisBroker, shared_server: Server):
    p = payloads(4)
    await run(owner, p)
    for each in p[:3]:
        shared_server.command("SCRIPT", "FLUSH")
        assert await owner.settle(next(NUMBERS), done([each])) == {}
    assert await running(owner) == p[3:]


async def test_list_of_the_wrong_type_costs_no_job_of_another_list(owner: RedisBroker, shared_server: Server):
    p = payloads(3)
    await run(owner, p)
    shared_server.command("SET", "queue:bad:owner:inprogress", "no list")
    with pytest.raises(Refused):
        await owner.settle(next(NUMBERS), [*done(p), *done(p[:1], "bad")])
    assert await running(owner) == p
    assert shared_server.command("GET", "queue:bad:owner:inprogress") == "no list"


async def test_what_lies_under_the_other_name_is_in_nobodys_way(owner: RedisBroker, shared_server: Server):
    p = payloads(1)
    for forged in (["SET", f"{LIST}:apart", "forged"], ["LPUSH", f"{LIST}:apart", "forged"]):
        shared_server.command(*forged)
        assert await owner.settle(next(NUMBERS), done(p)) == {0: "gone"}
        await run(owner, p)
        shared_server.command(*forged)
        assert await owner.settle(next(NUMBERS), done(p)) == {}
    assert shared_server.command("KEYS", "queue:*") == []


async def test_what_lies_there_is_not_taken_for_ours_by_who_may_not_settle(owner: RedisBroker, shared_server: Server):
    p = payloads(2)
    await run(owner, p)
    shared_server.command("SET", LEASE, "another")
    shared_server.command("RPUSH", f"{LIST}:apart", "forged", "tw:1")
    with pytest.raises(Superseded):
        await owner.settle(next(NUMBERS), done(p))
    assert await running(owner) == p
    shared_server.command("DEL", LEASE)
    shared_server.command("SET", "queue:bad:owner:inprogress", "no list")
    shared_server.command("RPUSH", f"{LIST}:apart", "forged", "tw:1")
    with pytest.raises(Refused):
        await owner.settle(next(NUMBERS), [*done(p), *done(p[:1], "bad")])
    assert await running(owner) == p


@pytest.mark.parametrize("rules", ["-@transaction", "-multi", "-exec", "-rename", "-rpop", "-lrem"])
async def test_user_who_may_not_have_several_commands_in_one_step_settles_by_script(
    shared_server: Server, redis_url: str, rules: str
):
    shared_server.command("ACL", "SETUSER", "narrow", "on", ">x", "~*", "&*", "+@all", rules)
    try:
        url = redis_url.replace("redis://", "redis://narrow:x@")
        async with connect(url, Link(url)) as connection:
            owner = RedisBroker(connection, Keys(), Holder("owner", "lease of owner", 30_000))
            p = payloads(3)
            await run(owner, p)
            if rules != "-lrem":  # which the other script needs, too
                assert await owner.settle(next(NUMBERS), done(p)) == {}
                assert await running(owner) == []
            else:
                with pytest.raises(Refused):
                    await owner.settle(next(NUMBERS), done(p))
                assert await running(owner) == p
            await owner.connection.call("move", lambda client: client.lpush("queue:q", [b"a"]))
            move = await owner.connection.call(
                "move", lambda client: client.lmove("queue:q", LIST, PureToken.RIGHT, PureToken.LEFT)
            )
            assert move == b"a"  # the connection isn't left in the midst of a transaction
    finally:
        shared_server.command("ACL", "DELUSER", "narrow")


@pytest.mark.parametrize("is_slow", [False, True])
async def test_what_failed_so_or_a_slow_link_has_it_settled_by_one_script(
    owner: RedisBroker, monkeypatch: pytest.MonkeyPatch, is_slow: bool
):
    """Which is waited for as long as it moves: the same way again might never come through."""
    tried = 0

    async def fail(*_: object) -> None:
        nonlocal tried
        tried += 1
        raise Unavailable("the connection broke")

    monkeypatch.setattr(owner.connection, "run_around", fail)
    group = payloads(3)
    await run(owner, group)
    number = next(NUMBERS)
    if is_slow:
        owner.connection.link.pace.failed()
    else:
        with pytest.raises(Unavailable):
            await owner.settle(number, done(group))
        assert await running(owner) == group
    assert await owner.settle(number, done(group)) == {}
    assert (await running(owner), tried) == ([], 0 if is_slow else 1)
