"""Who is charged with a worker's death, and who is buried for it: only who surely had started."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import trio

from trioworkers.broker.contract import LARGE_BYTES, MAX_CRASHES_IN_COMPANY, SUSPECTED
from trioworkers.broker.fake import FakeBroker
from trioworkers.broker.redis.link import Link
from trioworkers.engine.maintenance import Reclaimer
from trioworkers.engine.quarantine import MAX_CRASHES, QUARANTINE_AFTER_CRASHES, Blame, Quarantine

JIDS = ("killer", "neighbour", "fresh")
PAYLOADS = [json.dumps({"class": "A", "args": [], "jid": jid, "queue": "q"}).encode() for jid in JIDS]


class Deaths(FakeBroker):
    def __init__(self, counts: Mapping[str, int]) -> None:
        super().__init__()
        self.counts = counts

    async def crashes(self, jids: Sequence[str]) -> Mapping[str, int]:
        return self.counts


async def entries(
    counts: Mapping[str, int], started: Mapping[str, bool], payloads: Sequence[bytes] = PAYLOADS
) -> dict[str, tuple[int, bool]]:
    """By jid: with how much it is charged, whether it is buried."""
    broker: Any = Deaths(counts)
    reclaimer = Reclaimer(broker, Link("here"), lease_s=1, beat_s=1)
    found = await reclaimer._entries(broker, "q", payloads, Blame(started))
    return {jid: (charge, buried is not None) for _, jid, charge, buried in found}


async def test_nobody_knows_who_had_started_and_none_is_charged():
    assert await entries({}, {}) == dict.fromkeys(JIDS, (SUSPECTED, False))


async def test_who_was_all_that_it_had_is_charged():
    assert Blame({}, is_alone=True).charge("killer", None) == 1


@pytest.mark.parametrize(("before", "charge"), [(0, 2), (1, 1)])
async def test_suspects_that_had_started_are_charged_with_the_first_death_too(before: int, charge: int):
    found = await entries({"killer": before, "neighbour": before}, {"killer": False})
    assert found == {"killer": (charge, False), "neighbour": (0, False), "fresh": (SUSPECTED, False)}


async def test_who_is_in_quarantine_is_charged_alone():
    counts = {"killer": MAX_CRASHES - 1, "neighbour": MAX_CRASHES - 1}
    assert await entries(counts, {"killer": True, "neighbour": False}) == {
        "killer": (1, True),
        "neighbour": (0, False),
        "fresh": (SUSPECTED, False),
    }


@pytest.mark.parametrize("count", range(QUARANTINE_AFTER_CRASHES, MAX_CRASHES_IN_COMPANY - 1))
async def test_who_had_company_is_charged_and_not_buried(count: int):
    """After its head start an innocent one still counts as in quarantine."""
    found = await entries(dict.fromkeys(JIDS[:2], count), {"killer": True, "neighbour": True})
    assert found == {"killer": (1, False), "neighbour": (1, False), "fresh": (SUSPECTED, False)}


async def test_who_never_was_alone_is_buried_in_the_end():
    found = await entries(dict.fromkeys(JIDS, MAX_CRASHES_IN_COMPANY - 1), {"killer": True, "neighbour": True})
    assert found == {"killer": (1, True), "neighbour": (1, True), "fresh": (0, False)}


async def test_nobody_is_charged_who_may_not_have_started():
    """The worker died before the first of them was let in to its quarantine."""
    counts = {"killer": MAX_CRASHES - 1, "neighbour": MAX_CRASHES - 1}
    assert await entries(counts, {}) == {
        "killer": (0, False),
        "neighbour": (0, False),
        "fresh": (SUSPECTED, False),
    }


async def test_what_is_large_and_kills_before_its_start_is_charged_and_in_the_end_buried():
    """It is fetched alone: the worker died of receiving it. No start is ever noted, of anybody."""
    large = json.dumps({"class": "A", "args": ["x" * LARGE_BYTES], "jid": "large", "queue": "q"}).encode()
    counts: dict[str, int] = {}
    ends = []
    for _ in range(MAX_CRASHES):
        found = await entries(counts, {}, [*PAYLOADS, large])
        ends.append(found["large"])
        counts |= {jid: counts.get(jid, 0) + max(0, charge) for jid, (charge, _) in found.items()}
    assert ends == [(SUSPECTED, False), (2, False), (1, True)]
    assert {jid: counts[jid] for jid in JIDS} == dict.fromkeys(JIDS, 0)


async def test_what_is_large_and_waits_for_its_turn_is_not_charged():
    blame = Blame({"killer": True})
    blame.look("large", MAX_CRASHES - 1, LARGE_BYTES + 1)
    assert (blame.charge("large", MAX_CRASHES - 1), blame.charge("killer", MAX_CRASHES - 1), blame.enough) == (0, 1, 3)


async def test_no_start_is_noted_while_the_one_before_has_not_waited_yet(autojump_clock: object):
    """Whoever kills its worker in its first step does so before its neighbour is noted."""
    seen: list[str] = []

    class Notes(FakeBroker):
        async def note_start(self, jid: str, *, alone: bool) -> None:
            await trio.sleep(0.01)
            seen.append(f"{jid} noted, alone={alone}")

    quarantine = Quarantine(Notes())

    async def run(jid: str) -> None:
        await quarantine.enter(jid, trio.Event(), 0)
        seen.append(f"{jid} began")
        await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        for jid in "abc":
            nursery.start_soon(run, jid)
    assert sorted(seen[0::2]) == [f"{jid} noted, alone=False" for jid in "abc"]
    assert [line.split()[0] for line in seen[0::2]] == [line.split()[0] for line in seen[1::2]]
