"""What becomes of locks, on a real server and on the fake: the same."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import attrs
import pytest

from trioworkers import App, DuplicateJob, Job, Unique
from trioworkers.broker.contract import Holder, Intake, Settlement
from trioworkers.broker.fake import FakeBroker
from trioworkers.broker.holds.locks import GONE, KEPT, START, Answer, Claim
from trioworkers.broker.intake import open_intake
from trioworkers.broker.moves import RedisBroker
from trioworkers.broker.presence import Presence
from trioworkers.broker.redis.connection import Link, connect
from trioworkers.departures import Held, on_outcome
from trioworkers.errors import BrokerError
from trioworkers.exits import on_exit
from trioworkers.outcome import Acknowledge, Bury, Discard, Expire, Outcome, Requeue, Retry, Snooze
from trioworkers.send import Send
from trioworkers.wire.decode import decode, jid_of
from trioworkers.wire.encode import amend
from trioworkers.wire.job import new_jid
from trioworkers.wire.keys import Keys
from trioworkers.wire.lock import Lock


def unique(jid: str, on_conflict: Any = "skip", *, key: str = "A:k", queue: str = "q", **options: Any) -> Job:
    keep = options.pop("keep_result", None)
    return Job(queue, "A", jid=jid, lock=Lock(key, on_conflict=on_conflict, **options), keep_result=keep)


@attrs.define
class Bench:
    broker: RedisBroker
    intake: Intake
    url: str = ""
    number: int = 0
    group: int = 0

    async def send(self, *jobs: Job, delay_s: float | None = None) -> dict[int, str]:
        return await self.broker.send([Send(job, delay_s) for job in jobs])

    async def fetch(self) -> list[bytes]:
        return (await self.intake.fetch(100)).payloads

    async def waiting(self) -> list[str]:
        """The jids that are fetched next; they are as if they had never been."""
        found = await self.fetch()
        await self.broker.release("q")
        return [jid_of(payload) for payload in found]

    async def claim(self, payloads: Sequence[bytes], *, number: int = 0, **options: Any) -> list[Answer]:
        self.number = number or self.number + 1
        batch = []
        for payload in payloads:
            job = decode(payload, "q")
            what = options.get("what") or ("held" if job.lock is None or job.lock.until == "done" else "started")
            key = "A:k" if job.lock is None else job.lock.key
            named = amend(payload, {"tw_lock": key}, jid=job.jid) if job.lock is None else None
            batch.append(Claim(payload, job.jid, key, what, named, on_exit(payload, "replaced")))
        return await self.broker.claim("q", self.number, batch)

    async def settle(self, payload: bytes, outcome: Outcome | None = None) -> None:
        outcome, self.group = outcome or Acknowledge(), self.group + 1
        job = decode(payload, "q")
        held = Held(job.jid, None, None if job.keep_result is None else 60, job.lock.key if job.lock else "")
        settlement = Settlement("q", payload, outcome, on_outcome(outcome, held))
        assert await self.broker.settle(self.group, [settlement]) == {}

    async def how(self, jid: str) -> str | None:
        ended = await self.broker.ended(jid)
        return None if ended is None else ended.how


@pytest.fixture(params=["real", "fake"])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    if request.param == "fake":
        fake = FakeBroker(["q"], process_id="w")
        async with fake.open_intake("q") as intake:
            yield Bench(fake, intake)
        return
    url = request.getfixturevalue("redis_url")
    async with connect(url, Link(url)) as connection:
        broker = RedisBroker(connection, Keys(), Holder("w", "lease", 30_000))
        await Presence(broker, "w", ["q"]).claim()
        async with open_intake(broker, url, 1.0, "q") as intake:
            yield Bench(broker, intake, url)


# ── sent ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_second_one_is_not_sent_and_told_of_the_first(bench: Bench):
    assert await bench.send(unique("a")) == {}
    assert await bench.send(unique("b"), unique("c", key="A:other")) == {0: "a"}
    assert await bench.waiting() == ["a", "c"]


async def test_order_of_a_call_is_kept_and_of_two_in_one_call_the_first_counts(bench: Bench):
    jobs = [Job("q", "B", jid="0"), unique("1"), Job("q", "B", jid="2"), unique("3"), unique("4", key="A:z")]
    assert await bench.send(*jobs) == {3: "1"}
    assert await bench.waiting() == ["0", "1", "2", "4"]


async def test_scheduled_one_has_the_lock_and_keeps_it(bench: Bench):
    await bench.send(unique("later"), delay_s=600)
    assert await bench.send(unique("now")) == {0: "later"}
    assert await bench.waiting() == []


async def test_same_job_sent_again_is_its_own_duplicate(bench: Bench):
    await bench.send(unique("a"))
    assert await bench.send(unique("a", "latest")) == {0: "a"}
    assert await bench.waiting() == ["a"]


async def test_raise_refuses_all_that_goes_with_it(bench: Bench):
    await bench.send(unique("a"))
    with pytest.raises(DuplicateJob) as refused:
        await bench.send(Job("q", "B", jid="plain"), unique("b", "raise"))
    assert refused.value.duplicate_of == "a"
    with pytest.raises(DuplicateJob):
        await bench.send(unique("c", "raise", key="A:z"), unique("d", "raise", key="A:z"))
    assert await bench.waiting() == ["a"]
    assert await bench.send(unique("c", "raise", key="A:z")) == {}


async def test_thousands_in_one_call(bench: Bench):
    jobs = [unique(str(n), key=f"A:{n % 1500}") for n in range(3000)]
    assert await bench.send(*jobs) == {n: str(n - 1500) for n in range(1500, 3000)}


async def test_throttled_is_the_only_one_in_its_spell_whatever_becomes_of_it(bench: Bench):
    options: dict[str, Any] = {"until": "spell", "every_s": 60.0}
    assert await bench.send(unique("a", "throttle", **options)) == {}
    [payload] = await bench.fetch()
    await bench.settle(payload)
    assert await bench.send(unique("b", "throttle", **options)) == {0: "a"}
    assert await bench.waiting() == []


# ── kept, let go ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "outcome", [Acknowledge(), Bury(b'{"class":"A"}'), Discard(), Expire()], ids=lambda o: type(o).__name__
)
async def test_every_end_lets_it_go(bench: Bench, outcome: Outcome):
    await bench.send(unique("a"))
    [payload] = await bench.fetch()
    assert await bench.claim([payload]) == [START]
    await bench.settle(payload, outcome)
    assert await bench.send(unique("b")) == {}


@pytest.mark.parametrize("kind", [Retry, Snooze, Requeue])
async def test_what_is_no_end_keeps_it(bench: Bench, kind: Any):
    await bench.send(unique("a"))
    [payload] = await bench.fetch()
    await bench.settle(payload, Requeue() if kind is Requeue else kind(payload, 60.0))
    assert await bench.send(unique("b")) == {0: "a"}


async def test_release_and_put_back_keep_it(bench: Bench):
    await bench.send(unique("a"))
    [payload] = await bench.fetch()
    await bench.broker.put_back("q", [payload])
    await bench.fetch()
    await bench.broker.release("q")
    assert await bench.send(unique("b")) == {0: "a"}
    [payload] = await bench.fetch()
    assert await bench.claim([payload]) == [START]


async def test_who_ended_lets_nobody_elses_go(bench: Bench):
    await bench.send(unique("a"))
    [payload] = await bench.fetch()
    await bench.settle(payload)
    await bench.send(unique("b"))
    await bench.send(Job("q", "A", jid="a", extra={"tw_lock": "A:k"}))  # replayed
    second, replayed = await bench.fetch()
    assert await bench.claim([replayed]) == [Answer("other", jid="b")]
    await bench.settle(replayed, Bury(replayed))
    assert await bench.send(unique("c")) == {0: "b"}
    assert await bench.claim([second]) == [START]


async def test_replayed_one_takes_it_again_if_it_is_free(bench: Bench):
    await bench.send(Job("q", "A", jid="a", extra={"tw_lock": "A:k"}))
    [payload] = await bench.fetch()
    assert await bench.claim([payload]) == [START]
    assert await bench.send(unique("b")) == {0: "a"}


async def test_until_started_lets_it_go_at_the_start_and_never_takes_it_again(bench: Bench):
    await bench.send(unique("a", until="started"))
    assert await bench.send(unique("b", until="started")) == {0: "a"}
    [payload] = await bench.fetch()
    assert await bench.claim([payload]) == [START]
    assert await bench.claim([payload], what="release") == [START]
    assert await bench.send(unique("b", until="started")) == {}
    await bench.settle(payload, Retry(payload, 60.0))
    assert await bench.claim([payload]) == [START]
    assert await bench.send(unique("c", until="started")) == {0: "b"}


# ── replaced, followed ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("on_conflict", ["replace", "latest"])
async def test_one_that_waits_is_replaced_when_it_is_fetched(bench: Bench, on_conflict: Any):
    await bench.send(unique("a", on_conflict, keep_result=60), Job("q", "B", jid="behind"))
    assert await bench.send(unique("b", on_conflict, keep_result=60)) == {0: "a"}
    assert await bench.send(unique("c", on_conflict, keep_result=60)) == {0: "a"}
    assert await bench.how("b") == "replaced"
    first, behind = await bench.fetch()
    [answer] = await bench.claim([first])
    assert (answer.how, jid_of(answer.payload)) == ("swapped", "c")
    assert await bench.how("a") == "replaced"
    assert await bench.claim([answer.payload]) == [START]
    await bench.settle(answer.payload)
    assert await bench.how("c") == "succeeded"
    await bench.settle(behind)
    assert await bench.send(unique("d")) == {}


@pytest.mark.parametrize(("on_conflict", "then"), [("latest", ["b"]), ("replace", [])])
async def test_one_that_runs_is_followed_by_the_latest_but_not_replaced(
    bench: Bench, on_conflict: Any, then: list[str]
):
    await bench.send(unique("a", on_conflict))
    [payload] = await bench.fetch()
    assert await bench.claim([payload]) == [START]
    assert await bench.send(unique("b", on_conflict, keep_result=60)) == {0: "a"}
    await bench.settle(payload)
    assert await bench.waiting() == then
    assert await bench.how("b") == (None if then else "replaced")
    assert await bench.send(unique("c")) == ({0: "b"} if then else {})


async def test_follower_that_is_to_wait_waits(bench: Bench):
    await bench.send(unique("a", "latest"))
    [payload] = await bench.fetch()
    await bench.claim([payload])
    await bench.send(unique("b", "latest"), delay_s=600)
    await bench.settle(payload)
    assert await bench.waiting() == []
    assert await bench.send(unique("c")) == {0: "b"}


async def test_successor_on_another_queue_goes_there(bench: Bench):
    await bench.send(unique("a", "latest"))
    await bench.send(unique("b", "latest", queue="elsewhere"))
    [payload] = await bench.fetch()
    assert await bench.claim([payload]) == [KEPT]
    async with open_other(bench, "elsewhere") as intake:
        assert [jid_of(payload) for payload in (await intake.fetch(5)).payloads] == ["b"]


def open_other(bench: Bench, queue: str) -> Any:
    if isinstance(bench.broker, FakeBroker):
        return bench.broker.open_intake(queue)
    return open_intake(bench.broker, bench.url, 1.0, queue)


async def test_what_an_operator_deletes_from_next_follows_nobody(bench: Bench):
    await bench.send(unique("a", "latest"))
    await bench.send(unique("b", "latest"))
    if isinstance(bench.broker, FakeBroker):
        for each in list(bench.broker.sets["next"]):
            bench.broker.sets["next"].remove(each)
    else:
        await bench.broker.connection.call("t", lambda client: client.delete(["tw:next"]))
    [payload] = await bench.fetch()
    assert await bench.claim([payload]) == [START]
    await bench.settle(payload)
    assert await bench.send(unique("c")) == {}
    assert await bench.waiting() == ["c"]


async def test_debounced_waits_from_the_last_one_on_but_not_for_ever(bench: Bench):
    options: dict[str, Any] = {"wait_s": 100.0, "max_wait_s": 150.0}
    for jid in ("a", "b", "c"):
        met = await bench.send(unique(jid, "debounce", keep_result=60, **options))
    assert met == {0: "b"}
    assert await bench.how("a") == await bench.how("b") == "replaced"
    due = await bench.broker.due(10)
    assert due.next_in_s is not None
    assert 90 < due.next_in_s <= 100
    await bench.send(unique("d", "debounce", **{**options, "wait_s": 1000.0}))
    due = await bench.broker.due(10)
    assert due.next_in_s is not None
    assert 140 < due.next_in_s <= 150


# ── jobs of others ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_job_that_came_without_takes_it_when_it_is_fetched_and_names_it_from_then_on(bench: Bench):
    await bench.send(Job("q", "A", jid="ruby"))
    [payload] = await bench.fetch()
    assert await bench.claim([payload], what="skip") == [START]
    assert await bench.send(unique("b")) == {0: "ruby"}
    await bench.broker.release("q")
    [payload] = await bench.fetch()
    assert decode(payload, "q").lock == Lock("A:k")
    assert await bench.claim([payload]) == [START]
    await bench.settle(payload)
    assert await bench.send(unique("c")) == {}


@pytest.mark.parametrize(
    ("what", "answer"), [("skip", Answer("skipped", jid="a")), ("latest", KEPT), ("replace", KEPT)]
)
async def test_job_that_came_without_meets_another(bench: Bench, what: Any, answer: Answer):
    await bench.send(unique("a"), Job("q", "A", jid="ruby"))
    first, ruby = await bench.fetch()
    assert await bench.claim([first]) == [START]
    assert await bench.claim([ruby], what=what) == [answer]
    await bench.settle(first)
    assert await bench.waiting() == (["ruby"] if what == "latest" else [])


async def test_of_two_in_one_batch_one_starts(bench: Bench):
    await bench.send(Job("q", "A", jid="1"), Job("q", "A", jid="2"))
    assert await bench.claim(await bench.fetch(), what="skip") == [START, Answer("skipped", jid="1")]


# ── copies ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_repeated_claim_has_the_same_answer_and_a_late_one_none(bench: Bench):
    await bench.send(unique("a", "latest"))
    await bench.send(unique("b", "latest"))
    payloads = await bench.fetch()
    first = await bench.claim(payloads)
    assert await bench.claim(payloads, number=1) == first
    await bench.claim([first[0].payload], number=2)
    with pytest.raises(BrokerError, match="LATE"):
        await bench.claim(payloads, number=1)


async def test_who_is_not_in_our_list_takes_nothing(bench: Bench):
    await bench.send(Job("q", "A", jid="ruby"))
    [payload] = await bench.fetch()
    await bench.broker.release("q")
    assert await bench.claim([payload], what="skip") == [GONE]
    assert await bench.send(unique("b")) == {}


# ── sent from inside a job ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_a_job_sends_takes_its_lock_with_the_outcome(bench: Bench):
    await bench.send(Job("q", "B", jid="sender"), unique("there", key="A:there"))
    sender, _ = await bench.fetch()
    sends = (Send(unique("x")), Send(unique("y")), Send(unique("z", key="A:there")), Send(Job("q", "B", jid="plain")))
    await bench.settle(sender, Acknowledge(sends))
    assert await bench.waiting() == ["x", "plain"]


async def test_job_that_sends_its_like_is_followed_by_it(bench: Bench):
    await bench.send(unique("a"))
    [payload] = await bench.fetch()
    await bench.settle(payload, Acknowledge((Send(unique("b")), Send(unique("c")))))
    assert await bench.waiting() == ["b"]
    assert await bench.send(unique("d")) == {0: "b"}


def test_bench_sends_what_handlers_build():
    app = App()

    @app.handler("q", "A", unique=Unique(by="x", on_conflict="latest"))
    async def a(x: int, y: int = 1) -> None: ...

    assert a.job(1).lock == a.job(1, 2).lock != a.job(2).lock
    assert a.job(1).lock.on_conflict == "latest"  # type: ignore[union-attr]
    assert new_jid()
