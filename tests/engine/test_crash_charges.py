"""Who is charged with a worker's death, and who is buried for it: only who surely had started."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from trioworkers.broker.contract import MAX_CRASHES_IN_COMPANY
from trioworkers.broker.fake import FakeBroker
from trioworkers.broker.redis.link import Link
from trioworkers.engine.maintenance import Reclaimer
from trioworkers.engine.quarantine import MAX_CRASHES, QUARANTINE_AFTER_CRASHES

JIDS = ("killer", "neighbour", "fresh")
PAYLOADS = [json.dumps({"class": "A", "args": [], "jid": jid, "queue": "q"}).encode() for jid in JIDS]


class Deaths(FakeBroker):
    def __init__(self, counts: Mapping[str, int]) -> None:
        super().__init__()
        self.counts = counts

    async def crashes(self, jids: Sequence[str]) -> Mapping[str, int]:
        return self.counts


async def entries(counts: Mapping[str, int], on_trial: set[str]) -> dict[str, tuple[bool, bool]]:
    """By jid: whether it is charged, whether it is buried."""
    broker: Any = Deaths(counts)
    reclaimer = Reclaimer(broker, Link("here"), lease_s=1, beat_s=1)
    found = await reclaimer._entries(broker, "q", PAYLOADS, on_trial)
    return {jid: (charged, buried is not None) for _, jid, charged, buried in found}


@pytest.mark.parametrize("count", range(QUARANTINE_AFTER_CRASHES))
async def test_nobody_knows_who_did_it_and_all_are_charged(count: int):
    assert await entries(dict.fromkeys(JIDS, count), set()) == dict.fromkeys(JIDS, (True, False))


async def test_who_is_in_quarantine_is_charged_alone():
    counts = {"killer": MAX_CRASHES - 1, "neighbour": MAX_CRASHES - 1}
    assert await entries(counts, {"killer"}) == {
        "killer": (True, True),
        "neighbour": (False, False),
        "fresh": (False, False),
    }


@pytest.mark.parametrize("count", range(QUARANTINE_AFTER_CRASHES, MAX_CRASHES_IN_COMPANY - 1))
async def test_who_had_company_is_charged_and_not_buried(count: int):
    """After its head start an innocent one still counts as in quarantine."""
    found = await entries(dict.fromkeys(JIDS, count), {"killer", "neighbour"})
    assert found == {"killer": (True, False), "neighbour": (True, False), "fresh": (False, False)}


async def test_who_never_was_alone_is_buried_in_the_end():
    found = await entries(dict.fromkeys(JIDS, MAX_CRASHES_IN_COMPANY - 1), {"killer", "neighbour"})
    assert found == {"killer": (True, True), "neighbour": (True, True), "fresh": (False, False)}


async def test_nobody_is_buried_who_may_not_have_started():
    """The worker died before the first of them was let in to its quarantine: of too much to fetch, say."""
    counts = {"killer": MAX_CRASHES - 1, "neighbour": MAX_CRASHES - 1}
    assert await entries(counts, set()) == {
        "killer": (False, False),
        "neighbour": (False, False),
        "fresh": (True, False),
    }
