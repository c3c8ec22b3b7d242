"""The audit of a list so heavy that it is read in several steps, while payloads come and go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence

import attrs
import pytest

from trioworkers.broker.contract import Listed
from trioworkers.broker.digest import digest_of
from trioworkers.broker.fake import FakeBroker
from trioworkers.departures import Permit
from trioworkers.engine.audit import Audit
from trioworkers.engine.delivery import Delivery, State
from trioworkers.errors import Unavailable


class Restless(FakeBroker):
    """Some payloads are missed, others seen twice."""

    missed: Collection[bytes] = ()
    twice: Collection[bytes] = ()

    async def audit(self, queue: str, expected: int, limit: int, known: Collection[bytes] = ()) -> Listed | None:
        listed = await super().audit(queue, -1, limit, known)
        assert listed is not None
        found = Counter(listed.payloads) + Counter(self.twice)
        return attrs.evolve(listed, payloads=found - Counter(self.missed), at_once=False)


class Interrupted(FakeBroker):
    """`meanwhile` happens when the list has been read, and before that is known here; or it can't be read at all."""

    meanwhile: Callable[[], None] = staticmethod(lambda: None)
    is_away = False

    async def audit(self, queue: str, expected: int, limit: int, known: Collection[bytes] = ()) -> Listed | None:
        if self.is_away:
            raise Unavailable("away")
        listed = await super().audit(queue, expected, limit, known)
        self.meanwhile()
        return listed


def running(*payloads: bytes) -> set[Delivery]:
    return {Delivery("q", payload, 0.0, state=State.RUNNING) for payload in payloads}


async def test_payload_that_was_missed_while_others_moved_is_not_taken_for_lost() -> None:
    broker = Restless()
    broker.lists["q", "fake"] = [b"1", b"2", b"3"]
    broker.missed = [b"1", b"2"]
    ours = running(b"1", b"2", b"3", b"lost")
    audit = Audit("q", broker, ours)
    audit.doubt(taken_over=True)
    await audit.run()
    assert {delivery.payload for delivery in ours if delivery.state is State.LOST} == {b"lost"}


async def test_payload_that_was_seen_twice_while_others_moved_is_not_put_back() -> None:
    broker = Restless()
    broker.lists["q", "fake"] = [b"1", b"stray", b"2", b"stray"]
    broker.twice = [b"1", b"stray"]
    await Audit("q", broker, running(b"1", b"2")).run()
    assert broker.lists["q", "fake"] == [b"1", b"2"]
    assert broker.queues["q"] == [b"stray"] * 2


async def test_checkpoint_that_is_written_while_the_list_is_read_is_known_by_its_digest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Over a link that breaks. Taken for a stray it would be put back while it runs, and its job be cancelled."""
    broker = Interrupted()
    broker.lists["q", "fake"] = [b"stray", b"later", b"1"]
    ours = running(b"earlier", b"1")
    [changing] = (delivery for delivery in ours if delivery.payload == b"earlier")
    put_back: list[bytes] = []

    async def told(queue: str, expected: int, limit: int, known: Collection[bytes] = ()) -> Listed:
        changing.payload = b"later"
        return Listed(Counter(map(digest_of, broker.lists["q", "fake"])))

    async def note(queue: str, payloads: Sequence[bytes], running: Sequence[Permit] = ()) -> int:
        put_back.extend(payloads)
        return len(payloads)

    monkeypatch.setattr(broker, "audit", told)
    monkeypatch.setattr(broker, "put_back", note)
    audit = Audit("q", broker, ours)
    audit.doubt(taken_over=True)
    await audit.run()
    assert put_back == [digest_of(b"stray")]
    assert {delivery.state for delivery in ours} == {State.RUNNING}


async def test_what_is_taken_over_while_the_list_is_compared_is_found_the_next_time() -> None:
    broker = Interrupted()
    broker.lists["q", "fake"] = [b"1"]
    ours = running(b"1")
    audit = Audit("q", broker, ours)

    def take_over() -> None:
        broker.lists["q", "fake"] = []
        audit.doubt(taken_over=True)

    broker.meanwhile = take_over
    await audit.run()
    assert [delivery.state for delivery in ours] == [State.RUNNING]
    assert audit.is_due
    broker.meanwhile = lambda: None
    await audit.run()
    assert [delivery.state for delivery in ours] == [State.LOST]


async def test_list_that_could_not_be_read_is_in_doubt_as_before() -> None:
    broker = Interrupted()
    ours = running(b"lost")
    audit = Audit("q", broker, ours)
    audit.doubt(taken_over=True)
    broker.is_away = True
    with pytest.raises(Unavailable):
        await audit.run()
    assert audit.is_due
    broker.is_away = False
    await audit.run()
    assert [delivery.state for delivery in ours] == [State.LOST]


async def test_what_is_put_off_stays_in_doubt() -> None:
    broker = FakeBroker()
    ours = running(b"lost")
    audit = Audit("q", broker, ours)
    audit.doubt(taken_over=True)
    audit.put_off()
    assert not audit.is_due
    await audit.run()
    assert [delivery.state for delivery in ours] == [State.LOST]
