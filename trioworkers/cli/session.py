"""Where commands that look and act are run: one connection, and one readable line for whatever goes wrong with it."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial

import trio

from trioworkers.broker.people.session import Session, open_session
from trioworkers.broker.redis.link import Link
from trioworkers.broker.redis.server import open_server
from trioworkers.chosen_redis import ChosenRedis
from trioworkers.cli.which_redis import which_redis
from trioworkers.redis_url import shown_url

__all__ = ["Session", "in_session"]


def in_session(command: Callable[[Session], Awaitable[None]], redis: str | None, namespace: str | None) -> None:
    """Run `command` on the Redis that is meant. Raises Unavailable with its address, and our other errors.

    Who reads our output may stop reading: then we end as any tool does.
    """
    place = which_redis(redis, namespace)
    try:
        with _silent_logs(), place.explained():
            trio.run(partial(_run, command, place), restrict_keyboard_interrupt_to_checkpoints=True)
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
    async with (
        open_server(place.url) as url,
        open_session(url, place.namespace, Link(shown_url(url))) as session,
    ):
        await command(session)
        sys.stdout.flush()
