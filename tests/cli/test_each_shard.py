"""One command in several shards: who waits for whom, what is written when, and what has the last word."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.lowlevel

from trioworkers.chosen_redis import ChosenRedis
from trioworkers.cli.each_shard import Manner, NotHere, run_at_each
from trioworkers.cli.tables import Column, Rows, remark, say
from trioworkers.errors import JobFailed, NotFound, Refused, TrioworkersError, Unavailable

PLACES = {name: ChosenRedis(f"redis://{name}", name) for name in "abc"}


async def run(manner: Manner, **commands: Callable[[], Awaitable[None]]) -> None:
    async def command(place: ChosenRedis) -> None:
        if place.namespace in commands:
            await commands[place.namespace]()
        else:
            say("done")

    with trio.fail_after(30):
        await run_at_each(command, PLACES, manner)


def raising(error: TrioworkersError) -> Callable[[], Awaitable[None]]:
    async def command() -> None:
        raise error

    return command


async def test_all_are_asked_at_once_and_told_in_their_order(capsys: pytest.CaptureFixture[str]):
    told = trio.Event()

    async def first() -> None:
        say("begins")
        await told.wait()
        Rows([Column("x", lambda row: row["x"])], as_json=True).add({"x": 1})

    async def last() -> None:
        say("was first")
        remark("by the way")
        told.set()

    await run("at once", a=first, c=last)
    out, err = capsys.readouterr()
    assert out.splitlines() == ["a: begins", '{"shard":"a","x":1}', "b: done", "c: was first"]
    assert err == "c: by the way\n"


async def test_what_one_has_to_say_is_told_as_soon_as_those_before_it_have(capsys: pytest.CaptureFixture[str]):
    seen: list[str] = []

    async def last() -> None:
        while not seen:
            await trio.lowlevel.checkpoint()
            if out := capsys.readouterr().out:
                seen.append(out)

    await run("at once", c=last)
    assert seen[0].startswith("a: done")


async def test_one_after_the_other_is_asked_in_turn(capsys: pytest.CaptureFixture[str]):
    async def first() -> None:
        say("begins")
        await trio.testing.wait_all_tasks_blocked()
        say("ends")

    await run("in turn", a=first)
    assert capsys.readouterr().out.splitlines() == ["a: begins", "a: ends", "b: done", "c: done"]


@pytest.mark.parametrize("manner", ["at once", "in turn"])
async def test_those_that_are_away_are_named_and_the_rest_is_done(manner: Manner, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(Unavailable, match="no answer from shards a, c"):
        await run(manner, a=raising(Unavailable("gone")), c=raising(Unavailable("gone")))
    out, err = capsys.readouterr()
    assert out == "b: done\n"
    assert [line[:3] for line in err.splitlines()] == ["a: ", "c: "]


async def test_one_that_refuses_keeps_none_from_being_asked_at_once(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(Refused, match=r"redis://a.*no right"):
        await run("at once", a=raising(Refused("no right")), b=raising(Refused("neither")))
    out, err = capsys.readouterr()
    assert out == "c: done\n"
    assert err.startswith("b: Redis at redis://b")


async def test_one_that_refuses_ends_what_is_done_in_turn(capsys: pytest.CaptureFixture[str]):
    """Somebody said no, or nobody is there to say yes."""
    with pytest.raises(Refused):
        await run("in turn", b=raising(Refused("no")))
    assert capsys.readouterr().out == "a: done\n"


@pytest.mark.parametrize("manner", ["at once", "in turn", "about one"])
async def test_not_found_is_what_is_in_none(manner: Manner):
    missing = raising(NotFound("nothing"))
    with pytest.raises(NotFound, match="nothing"):
        await run(manner, a=raising(NotHere("elsewhere")), b=missing, c=missing)


async def test_the_one_that_knows_ends_the_rest(capsys: pytest.CaptureFixture[str]):
    await run("about one", a=trio.sleep_forever, b=raising(Unavailable("gone")))
    assert capsys.readouterr() == ("c: done\n", "")


async def test_how_a_job_ended_is_the_last_word():
    with pytest.raises(JobFailed):
        await run(
            "about one", a=raising(Unavailable("gone")), b=raising(JobFailed("jid", "E", "m")), c=trio.sleep_forever
        )


async def test_those_that_are_away_count_where_nobody_knows(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(Unavailable, match="no answer from shard b"):
        await run("about one", a=raising(NotFound("a")), b=raising(Unavailable("gone")), c=raising(NotFound("c")))
    assert capsys.readouterr().err.startswith("b: no answer from Redis")


async def test_streams_are_themselves_again():
    streams = sys.stdout, sys.stderr
    await run("at once")
    assert (sys.stdout, sys.stderr) == streams
