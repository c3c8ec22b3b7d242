"""Where commands that look and act are run: one connection, and one readable line for whatever goes wrong with it."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from functools import partial

import trio

from trioworkers.broker.people.session import Session, open_session
from trioworkers.broker.redis.link import Link
from trioworkers.broker.redis.server import open_server
from trioworkers.broker.ungrouped import ungrouped
from trioworkers.chosen_redis import ChosenRedis
from trioworkers.cli.shards import names_an_app, redises_of
from trioworkers.cli.tables import in_shard, remark
from trioworkers.cli.which_redis import which_redis
from trioworkers.errors import NotFound, Unavailable
from trioworkers.redis_url import shown_url

__all__ = ["NotHere", "Session", "in_session", "in_sessions", "in_shards"]


class NotHere(NotFound):
    """What was asked for is not in this shard. What another one says of it is worth more."""


def in_session(
    command: Callable[[Session], Awaitable[None]],
    redis: str | None,
    namespace: str | None,
    *,
    is_about_one: bool = False,
) -> None:
    """Run `command` on the Redis that is meant. Raises Unavailable with its address, and our other errors.

    `redis` may name an App with shards: then it is run on each of them, what it writes says on which, and one that isn't there keeps none of the others from
    being shown. NotFound is raised if it is so in all of them. With `is_about_one` the first in which it isn't has the last word.

    Who reads our output may stop reading: then we end as any tool does.
    """
    places = _places(redis, namespace)
    with _ending_as_any_tool():
        if len(places) == 1:
            _run_at(command, next(iter(places.values())))
        else:
            _run_at_each(command, places, is_about_one=is_about_one)


def in_shards(command: Callable[[Session], Awaitable[None]], places: Mapping[str, ChosenRedis]) -> None:
    """As `in_session`, in these shards only, by name."""
    with _ending_as_any_tool():
        if len(places) == 1:
            [(name, place)] = places.items()
            with in_shard(_shown(name)):
                _run_at(command, place)
        else:
            _run_at_each(command, places, is_about_one=False)


def in_sessions(
    command: Callable[[Sequence[Session]], Awaitable[None]], redis: str | None, namespace: str | None
) -> None:
    """As `in_session`, with all Redises at once that are there."""
    places = _places(redis, namespace)
    away: dict[str, Unavailable] = {}

    async def run() -> None:
        async with AsyncExitStack() as stack:
            sessions = {name: await stack.enter_async_context(_opened(place)) for name, place in places.items()}
            if len(places) > 1:
                away.update(await _away(sessions, places))
                for name, error in away.items():
                    with in_shard(_shown(name)):
                        remark(str(error))
                if len(away) == len(places):
                    return
            await command([session for name, session in sessions.items() if name not in away])
            sys.stdout.flush()

    only = next(iter(places.values()))
    with _ending_as_any_tool(), _silent_logs(), only.explained() if len(places) == 1 else nullcontext():
        trio.run(run, restrict_keyboard_interrupt_to_checkpoints=True)
    _check_all_there(away)


async def _away(sessions: Mapping[str, Session], places: Mapping[str, ChosenRedis]) -> Mapping[str, Unavailable]:
    """Those that don't answer, and why. All are asked at once."""
    found: dict[str, Unavailable] = {}

    async def ask(name: str) -> None:
        try:
            with places[name].explained():
                await sessions[name].inspector.now_s()
        except Unavailable as error:
            found[name] = error

    async with trio.open_nursery() as nursery:
        for name in places:
            nursery.start_soon(ask, name)
    return {name: found[name] for name in places if name in found}


def _check_all_there(away: Collection[str]) -> None:
    """Raise Unavailable if some weren't, when all that was to be said of each has been said."""
    if away:
        raise Unavailable(f"no answer from {'shard' if len(away) == 1 else 'shards'} {', '.join(map(_shown, away))}")


def _shown(shard: str) -> str:
    return shard or "(own)"


def _places(redis: str | None, namespace: str | None) -> Mapping[str, ChosenRedis]:
    if redis is not None and names_an_app(redis):
        return redises_of(redis, namespace)
    return {"": which_redis(redis, namespace)}


def _run_at_each(
    command: Callable[[Session], Awaitable[None]], places: Mapping[str, ChosenRedis], *, is_about_one: bool
) -> None:
    """On one after the other. Raises what went wrong with those that aren't there, when the others have been asked."""
    missing: list[NotFound] = []
    away: list[str] = []
    for name, place in places.items():
        with in_shard(_shown(name)):
            try:
                _run_at(command, place)
            except NotFound as error:
                missing.append(error)
            except Unavailable as error:
                remark(str(error))
                away.append(name)
            else:
                if is_about_one:
                    return
    _check_all_there(away)
    if len(missing) == len(places):
        raise next((error for error in missing if not isinstance(error, NotHere)), missing[0])


def _run_at(command: Callable[[Session], Awaitable[None]], place: ChosenRedis) -> None:
    with _silent_logs(), place.explained(), ungrouped():
        trio.run(partial(_run, command, place), restrict_keyboard_interrupt_to_checkpoints=True)


@contextmanager
def _ending_as_any_tool() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
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


async def _run(command: Callable[[Session], Awaitable[None]], place: ChosenRedis) -> None:
    async with _opened(place) as session:
        await command(session)
        sys.stdout.flush()


@asynccontextmanager
async def _opened(place: ChosenRedis) -> AsyncIterator[Session]:
    async with (
        open_server(place.url) as url,
        open_session(url, place.namespace, Link(shown_url(url))) as session,
    ):
        yield session
