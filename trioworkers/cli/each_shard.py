"""One command in several shards: asked at once, told shard by shard in their order, as far as each has come. Whoever is away keeps none of the others waiting."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from contextvars import ContextVar
from typing import Any, Literal, TextIO, TypeVar, cast

import attrs
import trio

from trioworkers.broker.ungrouped import ungrouped
from trioworkers.chosen_redis import ChosenRedis
from trioworkers.cli.tables import in_shard, remark
from trioworkers.errors import NotFound, TrioworkersError, Unavailable

S = TypeVar("S")
T = TypeVar("T")
Manner = Literal["at once", "in turn", "about one"]
"""How shards are asked. *At once*: what each writes is kept until it is its turn to be told. *In turn*: for a command that asks people, or writes without end. *About one*: what
is asked about is in one of them, which alone writes, as it goes; the first that has an answer ends the rest."""


class NotHere(NotFound):
    """What was asked for is not in this shard. What another one says of it is worth more."""


@attrs.define
class _Asked:
    """One shard. `written`: what it has to say; `error`: what went wrong there; `done`: it has nothing to add."""

    name: str
    place: ChosenRedis
    written: list[tuple[TextIO, str]] = attrs.field(factory=list)
    error: TrioworkersError | None = None
    done: trio.Event = attrs.field(factory=trio.Event)

    @property
    def is_away(self) -> bool:
        return isinstance(self.error, Unavailable)

    @property
    def has_answer(self) -> bool:
        return self.done.is_set() and not isinstance(self.error, NotFound | Unavailable)

    async def ask(self, command: Callable[[ChosenRedis], Awaitable[None]]) -> None:
        try:
            with in_shard(self.name), self.place.explained(), ungrouped():
                await command(self.place)
        except TrioworkersError as error:
            self.error = error
        self.done.set()

    def tell(self) -> None:
        """Write what it had to say, and whether it is away."""
        for stream, text in self.written:
            stream.write(text)
        sys.stdout.flush()
        if self.is_away:
            with in_shard(self.name):
                remark(str(self.error))


async def run_at_each(
    command: Callable[[ChosenRedis], Awaitable[None]], places: Mapping[str, ChosenRedis], manner: Manner
) -> None:
    """Raises what went wrong with some when all have been asked; NotFound if it is so in all. In turn, all but NotFound and Unavailable keeps the rest from being asked."""
    asked = [_Asked(name, place) for name, place in places.items()]
    if manner == "in turn":
        await _in_turn(command, asked)
    elif manner == "about one":
        await _about_one(command, asked)
    else:
        await _at_once(command, asked)


async def _in_turn(command: Callable[[ChosenRedis], Awaitable[None]], asked: Sequence[_Asked]) -> None:
    for each in asked:
        await each.ask(command)
        each.tell()
        if each.error is not None and each.has_answer:
            raise each.error
    _raise_problems(asked)


async def _at_once(command: Callable[[ChosenRedis], Awaitable[None]], asked: Sequence[_Asked]) -> None:
    async def ask(each: _Asked) -> None:
        _written.set(each.written)
        await each.ask(command)

    with redirect_stdout(cast(TextIO, _Kept(sys.stdout))), redirect_stderr(cast(TextIO, _Kept(sys.stderr))):
        async with trio.open_nursery() as nursery:
            for each in asked:
                nursery.start_soon(ask, each)
            for each in asked:
                await each.done.wait()
                each.tell()
    _raise_problems(asked)


async def _about_one(command: Callable[[ChosenRedis], Awaitable[None]], asked: Sequence[_Asked]) -> None:
    async def ask(each: _Asked) -> None:
        await each.ask(command)
        if each.has_answer:
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for each in asked:
            nursery.start_soon(ask, each)
    answers = [each.error for each in asked if each.has_answer]
    if not answers:
        for each in asked:
            each.tell()
        _raise_problems(asked)
    elif answers[0] is not None:
        raise answers[0]


def _raise_problems(asked: Sequence[_Asked]) -> None:
    """Raise what went wrong, of several kinds the worst; what else did has been told."""
    refused = [each for each in asked if each.error is not None and each.has_answer]
    for each in refused[1:]:
        with in_shard(each.name):
            remark(str(each.error))
    if refused:
        raise cast(TrioworkersError, refused[0].error)
    check_all_there([each.name for each in asked if each.is_away])
    missing = [each.error for each in asked if isinstance(each.error, NotFound)]
    if len(missing) == len(asked):
        raise next((error for error in missing if not isinstance(error, NotHere)), missing[0])


def check_all_there(away: Collection[str]) -> None:
    """Raise Unavailable if some weren't, when all that was to be said of each has been said."""
    if away:
        raise Unavailable(f"no answer from {'shard' if len(away) == 1 else 'shards'} {', '.join(away)}")


_written: ContextVar[list[tuple[TextIO, str]] | None] = ContextVar("trioworkers_written", default=None)


class _Kept:
    """A standard stream. What is written to it while a shard is asked is kept until that shard is told of."""

    def __init__(self, real: TextIO) -> None:
        self._real = real

    def write(self, text: str) -> int:
        kept = _written.get()
        if kept is None:
            return self._real.write(text)
        kept.append((self._real, text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


async def of_each(these: Mapping[str, S], look: Callable[[S], Awaitable[T]]) -> dict[str, T]:
    """What is found in each shard; all are asked at once, and remarks say in which they were made. Raises what `look` does; of several errors the first."""
    found: dict[str, T] = {}

    async def note(name: str) -> None:
        with in_shard(name):
            found[name] = await look(these[name])

    with ungrouped():
        async with trio.open_nursery() as nursery:
            for name in these:
                nursery.start_soon(note, name)
    return {name: found[name] for name in these}
