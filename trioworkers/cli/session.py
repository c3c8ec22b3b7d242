"""Where commands that look and act are run: one connection, and one readable line for whatever goes wrong with it."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, nullcontext

import trio

from trioworkers.broker.people.session import Session, open_session
from trioworkers.broker.redis.link import Link
from trioworkers.broker.redis.server import open_server
from trioworkers.broker.ungrouped import ungrouped
from trioworkers.chosen_redis import ChosenRedis
from trioworkers.cli.each_shard import Manner, NotHere, check_all_there, of_each, run_at_each
from trioworkers.cli.shards import names_an_app, redises_of
from trioworkers.cli.tables import in_shard, remark
from trioworkers.cli.which_redis import which_redis
from trioworkers.errors import Unavailable
from trioworkers.redis_url import shown_url

__all__ = ["NotHere", "Session", "in_session", "in_sessions", "in_shards"]


def in_session(
    command: Callable[[Session], Awaitable[None]],
    redis: str | None,
    namespace: str | None,
    manner: Manner = "at once",
) -> None:
    """Run `command` on the Redis that is meant. Raises Unavailable with its address, and our other errors.

    `redis` may name an App with shards: then it is run on each of them, what it writes says on which, and one that isn't there keeps none of the others from
    being shown. See `run_at_each`, also for `manner`.

    Who reads our output may stop reading: then we end as any tool does.
    """
    _run(command, _places(redis, namespace), manner)


def in_shards(command: Callable[[Session], Awaitable[None]], places: Mapping[str, ChosenRedis]) -> None:
    """As `in_session`, in these shards only, by name."""
    with in_shard(_shown(next(iter(places)))) if len(places) == 1 else nullcontext():
        _run(command, places, "at once")


def in_sessions(
    command: Callable[[Mapping[str, Session]], Awaitable[None]], redis: str | None, namespace: str | None
) -> None:
    """As `in_session`, with all Redises at once that are there, by shard; "" for one that is none."""
    places = _places(redis, namespace)
    several = len(places) > 1
    away: dict[str, Unavailable] = {}

    async def run() -> None:
        async with AsyncExitStack() as stack:
            sessions = {
                _shown(name) if several else "": await stack.enter_async_context(_opened(place))
                for name, place in places.items()
            }
            if several:
                away.update(await _away(sessions, places))
                for name, error in away.items():
                    with in_shard(name):
                        remark(str(error))
                if len(away) == len(places):
                    return
            await command({name: session for name, session in sessions.items() if name not in away})
            sys.stdout.flush()

    only = next(iter(places.values()))
    with _ending_as_any_tool(), _silent_logs(), nullcontext() if several else only.explained(), ungrouped():
        trio.run(run, restrict_keyboard_interrupt_to_checkpoints=True)
    check_all_there(away)


async def _away(sessions: Mapping[str, Session], places: Mapping[str, ChosenRedis]) -> Mapping[str, Unavailable]:
    """Those that don't answer, and why. All are asked at once."""
    explained = {_shown(name): place for name, place in places.items()}

    async def ask(name: str) -> Unavailable | None:
        try:
            with explained[name].explained():
                await sessions[name].inspector.now_s()
        except Unavailable as error:
            return error
        return None

    found = await of_each({name: name for name in sessions}, ask)
    return {name: error for name, error in found.items() if error is not None}


def _shown(shard: str) -> str:
    return shard or "(own)"


def _places(redis: str | None, namespace: str | None) -> Mapping[str, ChosenRedis]:
    if redis is not None and names_an_app(redis):
        return redises_of(redis, namespace)
    return {"": which_redis(redis, namespace)}


def _run(command: Callable[[Session], Awaitable[None]], places: Mapping[str, ChosenRedis], manner: Manner) -> None:
    async def at(place: ChosenRedis) -> None:
        async with _opened(place) as session:
            await command(session)
            sys.stdout.flush()

    only = next(iter(places.values()))
    with _ending_as_any_tool(), _silent_logs(), ungrouped():
        if len(places) == 1:
            with only.explained(), ungrouped():
                trio.run(at, only, restrict_keyboard_interrupt_to_checkpoints=True)
        else:
            named = {_shown(name): place for name, place in places.items()}
            trio.run(run_at_each, at, named, manner, restrict_keyboard_interrupt_to_checkpoints=True)


@contextmanager
def _ending_as_any_tool() -> Iterator[None]:
    is_read = True
    try:
        yield
    except* BrokenPipeError:
        is_read = False
    if not is_read:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


@contextmanager
def _silent_logs() -> Iterator[None]:
    """What happens to the connection is told by the error that ends the command."""
    loggers = [logging.getLogger(name) for name in ("trioworkers", "coredis")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@asynccontextmanager
async def _opened(place: ChosenRedis) -> AsyncIterator[Session]:
    async with (
        open_server(place.url) as url,
        open_session(url, place.namespace, Link(shown_url(url))) as session,
    ):
        yield session
