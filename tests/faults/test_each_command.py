"""Each kind of command that a worker sends is refused, answered too late, or breaks its connection: the worker lives, and each job ends once."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.lowlevel
from command_proxy import BROKEN, LATE, LOST, CommandProxy, Harm
from harness import all_scripts
from mixed_story import SENT, Story
from servers import Server

from trioworkers.broker import intake
from trioworkers.broker.redis import connection
from trioworkers.broker.redis.connection import connect
from trioworkers.broker.redis.translation import translated
from trioworkers.engine import search
from trioworkers.errors import BrokerError

REPLY_TIMEOUT_S = 0.4
TEMPORARY = {
    "OOM": "OOM command not allowed when used memory > 'maxmemory'.",
    "READONLY": "READONLY You can't write against a read only replica.",
    "BUSY": "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "LOADING": "LOADING Redis is loading the dataset in memory",
    "MISCONF": "MISCONF Errors writing to the AOF file: No space left on device",
    "NOREPLICAS": "NOREPLICAS Not enough good replicas to write.",
    "MASTERDOWN": "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "UNBLOCKED": "UNBLOCKED client unblocked via CLIENT UNBLOCK",
    "NOSCRIPT": "NOSCRIPT No matching script. Please use EVAL.",
    "CLUSTERDOWN": "CLUSTERDOWN The cluster is down",
    "TRYAGAIN": "TRYAGAIN Multiple keys request during rehashing of slot",
}
REFUSALS = {
    "NOPERM": "NOPERM User worker has no permissions to run this command",
    "WRONGTYPE": "WRONGTYPE Operation against a key holding the wrong kind of value",
    "CROSSSLOT": "CROSSSLOT Keys in request don't hash to the same slot",
    "MOVED": "MOVED 3999 127.0.0.1:6381",
    "ERR": "ERR this server is something else",
}
HARMED = 2
AT_WORK = {f"EVALSHA {name}" for name in ("fetch", "fetch capsule", "admit", "settle", "promote", "within")}
IN_DIALECTS = {"EVALSHA resque registered", "EVALSHA go prune", "EVALSHA go records"}
USUAL = AT_WORK | IN_DIALECTS | {"HELLO", "INFO", "EVALSHA claim", "EVALSHA reclaim", "EVALSHA beat", "EVALSHA due"}
"""So much at least comes by in each story."""


class Said(logging.Handler):
    """What is logged meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.faults: list[str] = []
        """What names a fault of ours."""

    def of_ours(self, error: Exception) -> BrokerError | None:
        """`translated`, and note what is no trouble of Redis, but was raised by our own code."""
        known = translated(error)
        *_, (frame, _) = traceback.walk_tb(error.__traceback__)
        if known is None and frame.f_globals["__name__"].startswith("trioworkers."):
            self.faults.append(repr(error))
        return known

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        self.lines.append(line)
        if record.exc_info or any(
            name in line for name in ("AttributeError", "TypeError", "KeyError", "IndexError", "the Redis client broke")
        ):
            self.faults.append(line + str(record.exc_info))


@pytest.fixture
def said() -> Iterator[Said]:
    handler = Said()
    logging.getLogger("trioworkers").addHandler(handler)
    yield handler
    logging.getLogger("trioworkers").removeHandler(handler)


@pytest.fixture
def tell(
    redis_url: str, shared_server: Server, said: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., list[tuple[str, str]]]]:
    """Tells the story once more, and returns what was done to which kind of command."""
    monkeypatch.setitem(connect.__wrapped__.__kwdefaults__, "reply_timeout_s", REPLY_TIMEOUT_S)  # type: ignore[attr-defined]
    monkeypatch.setattr(intake, "REPLY_TIMEOUT_S", REPLY_TIMEOUT_S)
    monkeypatch.setattr(connection, "translated", said.of_ours)
    for name, seconds in (("EVERY_S", 0.4), ("UNTOUCHED_S", 0.0), ("BETWEEN_S", 0.2)):
        monkeypatch.setattr(search, name, seconds)
    for script in all_scripts().values():  # else each is asked for twice the first time
        shared_server.command("SCRIPT", "LOAD", script.text)
    proxies: list[CommandProxy] = []

    def once(harm: Harm, **how: bool) -> list[tuple[str, str]]:
        shared_server.command("FLUSHALL")
        proxies.append(CommandProxy(shared_server.port, 3 * REPLY_TIMEOUT_S))
        story = Story(proxies[-1], shared_server)
        expected = story.push()
        trio.run(partial(story.run, expected, harm, **how))
        assert said.faults == []
        assert {name: count for name, count in story.ended.items() if count > 1 and not name.endswith(SENT)} == {}
        assert {tick: count for tick, count in story.ticks.items() if count > 1} == {}
        assert story.left(tmp_path) == set()
        return proxies[-1].done

    yield once
    for proxy in proxies:
        print(proxy.done)
        proxy.close()


Tell = Callable[..., list[tuple[str, str]]]


def in_turn(errors: Sequence[str]) -> Harm:
    """The first of each kind is refused with one error, the second with the next one; with which it begins is not the same for all."""
    return lambda kind, number: errors[(number + len(kind)) % len(errors)] if number <= HARMED else None


@pytest.mark.parametrize("harm", [LATE, LOST, BROKEN])
def test_first_of_each_kind_is_answered_late_or_never(tell: Tell, harm: str):
    done = tell(lambda kind, number: harm if number == 1 else None)
    assert {kind for kind, _ in done} >= USUAL


def test_each_kind_is_refused_in_ways_that_pass(tell: Tell):
    done = tell(in_turn([*TEMPORARY.values()]))
    assert {kind for kind, _ in done} >= USUAL


def test_each_kind_is_refused_once_it_has_started(tell: Tell):
    done = tell(in_turn([*REFUSALS.values()]), from_the_start=False)
    assert {kind for kind, _ in done} >= AT_WORK


@pytest.mark.slow
@pytest.mark.parametrize("harm", [*TEMPORARY])
def test_first_of_each_kind_is_refused(tell: Tell, harm: str):
    done = tell(lambda kind, number: TEMPORARY[harm] if number == 1 else None)
    assert {kind for kind, _ in done} >= USUAL


@pytest.mark.slow
@pytest.mark.parametrize("harm", [LATE, LOST, BROKEN])
@pytest.mark.parametrize("number", [1, 2])
def test_one_of_a_kind_is_answered_late_or_never(tell: Tell, harm: str, number: int):
    """What several of them do together hides what one does."""
    seen: set[str] = set()
    tell(lambda kind, each: seen.add(kind) if each == number else None)
    assert seen
    for one in sorted(seen):
        tell(lambda kind, each, one=one: harm if (kind, each) == (one, number) else None)
