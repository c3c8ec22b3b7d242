"""What the upkeep of one worker says and asks for, round by round."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import pairwise

import attrs
import pytest
import trio

from trioworkers.broker.fake import FakeBroker
from trioworkers.broker.holds.limits import Round, Tended
from trioworkers.engine.tending import RAREST_S, SOONEST_S, Tending
from trioworkers.errors import Refused
from trioworkers.wire.limit_spec import LimitSpec
from trioworkers.wire.packing import pack


class Scripted(FakeBroker):
    """Answers rounds as it is told to, the last answer for ever."""

    def __init__(self, *answers: Tended | Refused) -> None:
        super().__init__()
        self._answers = list(answers)
        self.rounds: list[tuple[float, Round]] = []

    async def tend(self, round_: Round) -> Tended:
        await trio.lowlevel.checkpoint()
        self.rounds.append((trio.current_time(), round_))
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Refused):
            raise answer
        return answer


@attrs.frozen
class Bench:
    broker: Scripted
    tending: Tending

    async def beats(self, count: int) -> Sequence[Round]:
        """The rounds of so many heartbeats."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.tending.run)
            for _ in range(count):
                self.tending.beat(something_is_held=True)
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        return [round_ for _, round_ in self.broker.rounds]


def bench(*answers: Tended | Refused, declared: dict[str, LimitSpec] | None = None) -> Bench:
    broker = Scripted(*answers)
    return Bench(broker, Tending(broker, {"crm": LimitSpec(1)} if declared is None else declared))


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


async def test_effects_that_can_not_be_written_are_told_when_there_are_more(autojump_clock, caplog):
    found = bench(Tended(repairs=2), Tended(repairs=2), Tended(repairs=1), Tended(repairs=3), Tended(repairs=3))
    with caplog.at_level(logging.WARNING, "trioworkers"):
        await found.beats(5)
    assert [line.split()[0] for line in lines(caplog)] == ["2", "3"]


async def test_lost_jobs_are_named_once_they_are_back(autojump_clock, caplog):
    payload = b'{"class":"A","args":[],"jid":"j","queue":"q"}'
    found = bench(Tended(lost=[payload, b"garbage"]), Tended(lost=[payload], put_back=0), Tended(put_back=1), Tended())
    with caplog.at_level(logging.WARNING, "trioworkers"):
        rounds = await found.beats(4)
    assert [len(round_.lost) for round_ in rounds] == [0, 1, 1, 0]
    assert rounds[1].lost == [(payload, "queue:q", "RPUSH")]
    assert [line for line in lines(caplog) if "put back" in line] == [
        "1 job put back: Redis had lost the record of their limits"
    ]


async def test_what_is_told_by_one_round_goes_with_the_next(autojump_clock):
    noted = pack((b'{"jid":"big","tw_keep":60,"args":["', b'"],"queue":"q"}'))
    found = bench(Tended(since="17.0", cursor=40, unread=[noted]), Tended(cursor=0))
    await found.beats(1)
    assert len(found.broker.rounds) == 2, "what has ended is let go at once"
    rounds = await found.beats(1)
    assert (rounds[0].since, rounds[0].cursor, rounds[0].ended) == ("", 0, [])
    assert (rounds[1].since, rounds[1].cursor) == ("17.0", 40)
    assert [(what, [effect[:2] for effect in effects]) for what, effects in rounds[1].ended] == [
        (noted, [("result", "big")])
    ]
    assert (rounds[2].since, rounds[2].ended) == ("17.0", [])


async def test_refused_round_is_told_once_and_comes_again_with_the_next_beat(autojump_clock, caplog):
    found = bench(Refused("WRONGTYPE"), Refused("WRONGTYPE"), Tended())
    with caplog.at_level(logging.WARNING, "trioworkers"):
        assert len(await found.beats(3)) == 3
    assert lines(caplog) == ["limits can't be maintained: WRONGTYPE"]


async def test_looks_come_more_rarely_while_others_are_faster(autojump_clock):
    found = bench(Tended(next_in_s=0.0))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(found.tending.run)
        found.tending.expect()
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    moments = [moment for moment, _ in found.broker.rounds]
    pauses = [round(after - before, 3) for before, after in pairwise(moments)]
    assert pauses[0] == 2 * SOONEST_S
    assert pauses == sorted(pauses)
    assert pauses[-1] == RAREST_S


async def test_without_limits_of_its_own_a_worker_looks_with_its_beats_only(autojump_clock):
    found = bench(Tended(next_in_s=0.0), declared={})
    rounds = await found.beats(1)
    assert len(rounds) == 1
    async with trio.open_nursery() as nursery:
        nursery.start_soon(found.tending.run)
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    assert len(found.broker.rounds) == 1
    found.tending.beat(something_is_held=False)
    assert len(await found.beats(0)) == 1


async def test_limit_that_is_added_is_told_with_the_next_round(autojump_clock):
    found = bench(Tended())
    await found.tending.declare()
    found.tending.add("disk", LimitSpec(3))
    found.tending.add("crm", LimitSpec(9))  # it is known, and its numbers are the same everywhere
    async with trio.open_nursery() as nursery:
        nursery.start_soon(found.tending.run)
        await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert [dict(round_.declared) for _, round_ in found.broker.rounds] == [
        {"crm": LimitSpec(1)},
        {"crm": LimitSpec(1), "disk": LimitSpec(3)},
    ]
