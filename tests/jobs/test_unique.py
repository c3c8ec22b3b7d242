"""Unique jobs as who writes handlers meets them: what is declared, how keys are made, and whole apps on the virtual clock."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from trioworkers import (
    App,
    BadJob,
    ConfigurationError,
    Context,
    Debounce,
    DuplicateJob,
    Job,
    JobGone,
    Sent,
    Throttle,
    Unique,
    testing,
)
from trioworkers.wire.lock import Lock, lock_in

# ── declared ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def sync(customer_id: int, tenant: str = "x") -> None: ...


@pytest.mark.parametrize(
    ("unique", "problem"),
    [
        (lambda: Unique(by="customer"), "unique by 'customer', which is no argument of it; known: customer_id, tenant"),
        (lambda: Debounce(by=("tenant", "nope"), wait=1), "'nope', which is no argument"),
        (lambda: Unique(by=()), "by= is the name of an argument, or a tuple"),
        (lambda: Unique(by=["customer_id"]), "by= is the name"),  # type: ignore[arg-type]
        (lambda: Unique(by=""), "by= is the name"),
        (lambda: Unique(until="dead"), "until is 'done' or 'started', not 'dead'"),  # type: ignore[arg-type]
        (lambda: Unique(on_conflict="wait"), "on_conflict is one of 'skip', 'raise', 'replace', 'latest'"),  # type: ignore[arg-type]
        (lambda: Throttle(every=0), "every is a number of seconds above 0"),
        (lambda: Throttle(every=True), "every is a number of seconds"),
        (lambda: Debounce(wait=float("nan")), "wait is a number of seconds"),
        (lambda: Debounce(wait=5, max_wait=2), "max_wait=2 is shorter than wait=5"),
        (lambda: "customer_id", "unique is Unique"),
    ],
)
def test_what_makes_no_sense_is_refused_where_it_is_declared(unique: Any, problem: str):
    with pytest.raises(ConfigurationError, match=problem.replace("(", r"\(")):
        App().handler("q", "A", unique=unique())(sync)


def test_context_is_no_argument_to_be_unique_by():
    async def handler(ctx: Context, x: int) -> None: ...

    with pytest.raises(ConfigurationError, match="known: x"):
        App().handler("q", "A", unique=Unique(by="ctx"))(handler)


# ── keys ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


@attrs.frozen
class Place:
    city: str
    street: str = ""


def keys(function: Any, unique: Any = None, queue: str = "q") -> Any:
    handler = App().handler(queue, "A", unique=unique or Unique())(function)

    def key(*args: Any, **kwargs: Any) -> str:
        lock = handler.job(*args, **kwargs).lock
        assert lock is not None
        return str(lock.key)

    key.handler = handler  # type: ignore[attr-defined]
    return key


def test_all_arguments_count_with_their_defaults_however_they_are_given():
    key = keys(sync)
    assert key(7) == key(7, "x") == key(customer_id=7, tenant="x")
    assert len({key(7), key(8), key(7, "y")}) == 3


def test_by_some_arguments_the_others_do_not_count():
    key = keys(sync, Unique(by="customer_id"))
    assert key(7, "a") == key(7, "b") != key(8, "a")
    both = keys(sync, Unique(by=("tenant", "customer_id")))
    assert both(7, "a") != both(7, "b")


def test_queue_does_not_count_but_the_class_does():
    assert keys(sync)(7) == keys(sync, queue="other")(7)
    assert App().handler("q", "B", unique=Unique())(sync).job(7).lock != keys(sync).handler.job(7).lock


@pytest.mark.parametrize(
    ("annotation", "sent", "spelled"),
    [
        (
            dt.datetime,
            dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
            ["2026-01-02T00:00:00Z", "2026-01-02T00:00:00.000+00:00"],
        ),
        (uuid.UUID, uuid.UUID(int=5), [str(uuid.UUID(int=5)), str(uuid.UUID(int=5)).upper()]),
        (float, 1.0, [1, 1.0]),
        (Place, Place("Rome"), [{"city": "Rome"}, {"street": "", "city": "Rome"}]),
        (set[str], {"b", "a", "c"}, [["c", "b", "a"], ["a", "b", "c", "a"]]),
        (Any, {"b": [1, {"d": 2, "c": 3}], "a": None}, [{"a": None, "b": [1, {"c": 3, "d": 2}]}]),
    ],
    ids=["datetime", "uuid", "float", "attrs", "set", "any"],
)
def test_others_spelling_of_a_value_is_the_same_key(annotation: Any, sent: Any, spelled: list[Any]):
    async def handler(value: Any) -> None: ...

    handler.__annotations__["value"] = annotation
    key = keys(handler)
    for value in spelled:
        lock = key.handler.unique.lock_of(Job("q", "A", [value]))
        assert lock.key == key(sent)


@pytest.mark.parametrize(
    "value",
    [{"a": "x" * 70_000}, "x" * 70_000, "\ud800", [[1.0] * 20_000]],
    ids=["object", "text", "half a character", "array"],
)
def test_what_can_not_be_keyed_is_refused_with_its_name(value: Any):
    async def handler(x: Any, document: Any = None) -> None: ...

    with pytest.raises(BadJob, match="argument document, by which it is unique, can't be keyed"):
        keys(handler, Unique(by="document"))(1, value)


@pytest.mark.parametrize(
    "value", ["", " ", "A:k other", "ä", "x" * 129, 5, None, ["A"], "A:k\n", 'A"', "A:k started x"]
)
def test_what_strangers_write_into_the_field_is_no_lock(value: Any):
    assert lock_in(value) is None


def test_field_says_until_what():
    for until in ("done", "started", "spell"):
        lock = Lock("A:k", until)  # type: ignore[arg-type]
        assert lock_in(lock.field) == lock


def test_sent_is_a_string_that_says_more():
    import copy  # noqa: PLC0415 - only here
    import pickle  # noqa: PLC0415 - only here

    sent = Sent("a", "b")
    assert (sent, sent.duplicate_of, Sent("a").duplicate_of) == ("a", "b", None)
    for again in (copy.deepcopy(sent), pickle.loads(pickle.dumps(sent))):
        assert (again, again.duplicate_of) == ("a", "b")
    sent = Sent("batch", duplicates={"a": "b"})
    for again in (copy.deepcopy(sent), pickle.loads(pickle.dumps(sent))):
        assert (again, again.duplicate_of, again.duplicates) == ("batch", None, {"a": "b"})


# ── whole apps ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@attrs.define
class Shop:
    unique: Any
    app: App = attrs.field(factory=App)
    ran: list[tuple[int, str]] = attrs.field(factory=list)
    gate: trio.Event = attrs.field(factory=trio.Event)
    handler: Any = None

    def __attrs_post_init__(self) -> None:
        @self.app.handler("q", "Sync", unique=self.unique, retry=1, keep_result=600)
        async def handler(customer: int, text: str = "") -> str:
            self.ran.append((customer, text))
            if text == "fails":
                raise ValueError(text)
            await self.gate.wait()
            return text

        self.handler = handler


async def test_one_runs_and_its_double_is_not_sent(autojump_clock: trio.testing.MockClock):
    shop = Shop(Unique(by="customer"))
    async with testing.run(shop.app) as test:
        [first] = await test.enqueue(shop.handler.job(1, "a"))
        await trio.sleep(1)
        second, other = await test.enqueue(shop.handler.job(1, "b"), shop.handler.job(2, "c"))
        assert (first.duplicate_of, second.duplicate_of, other.duplicate_of) == (None, first, None)
        shop.gate.set()
        await test.drain()
        [third] = await test.enqueue(shop.handler.job(1, "d"))
        assert third.duplicate_of is None
        await test.drain()
    assert shop.ran == [(1, "a"), (2, "c"), (1, "d")]


async def test_failing_job_keeps_its_lock_until_it_is_dead(autojump_clock: trio.testing.MockClock):
    shop = Shop(Unique(by="customer"))
    shop.gate.set()
    async with testing.run(shop.app) as test:
        [first] = await test.enqueue(shop.handler.job(1, "fails"))
        await trio.sleep(1)
        assert len(test.retries) == 1
        assert (await test.enqueue(shop.handler.job(1)))[0].duplicate_of == first
        await test.drain(retries=True)
        assert len(test.dead) == 1
        assert (await test.enqueue(shop.handler.job(1)))[0].duplicate_of is None
        await test.drain()


async def test_latest_follows_the_one_that_runs(autojump_clock: trio.testing.MockClock):
    shop = Shop(Unique(by="customer", on_conflict="latest"))
    async with testing.run(shop.app) as test:
        await test.enqueue(shop.handler.job(1, "a"))
        await trio.sleep(1)
        b, c = await test.enqueue(shop.handler.job(1, "b"), shop.handler.job(1, "c"))
        with pytest.raises(JobGone, match="replaced"):
            await test.client.result(b, timeout=1)
        shop.gate.set()
        assert await test.client.result(c, timeout=1) == "c"
    assert shop.ran == [(1, "a"), (1, "c")]


async def test_replace_gives_the_one_that_waits_the_newest_arguments(autojump_clock: trio.testing.MockClock):
    shop = Shop(Unique(by="customer", on_conflict="replace"))
    shop.gate.set()
    async with testing.run(shop.app) as test:
        [first] = await test.schedule(60, shop.handler.job(1, "old"))
        [second] = await test.enqueue(shop.handler.job(1, "new"))
        assert second.duplicate_of == first
        await test.drain(retries=True)
        assert await test.client.result(second, timeout=1) == "new"
    assert shop.ran == [(1, "new")]


async def test_debounced_runs_once_with_the_last_arguments(autojump_clock: trio.testing.MockClock):
    shop = Shop(Debounce(by="customer", wait=5, max_wait=20))
    shop.gate.set()
    async with testing.run(shop.app) as test:
        begun = trio.current_time()
        for number in range(30):
            await test.enqueue(shop.handler.job(1, str(number)))
            await trio.sleep(1)
        await test.drain(retries=True)
        assert trio.current_time() - begun < 40
    assert [text for _, text in shop.ran] == ["19", "29"] or [text for _, text in shop.ran] == ["20", "29"]


async def test_throttled_is_sent_once_in_its_spell(autojump_clock: trio.testing.MockClock):
    shop = Shop(Throttle(by="customer", every=10))
    shop.gate.set()
    async with testing.run(shop.app) as test:
        for number in range(25):
            await test.enqueue(shop.handler.job(1, str(number)))
            await test.drain()
            await trio.sleep(1)
    assert [text for _, text in shop.ran] == ["0", "10", "20"]


async def test_raise_is_for_clients_and_refused_from_inside(autojump_clock: trio.testing.MockClock):
    app = App()
    raised: list[BaseException] = []

    @app.handler("q", "Once", unique=Unique(on_conflict="raise"))
    async def once(x: int) -> None: ...

    @app.handler("q", "Sender")
    async def sender(ctx: Context) -> None:
        for call in (ctx.enqueue, lambda job: ctx.schedule(5, job)):
            try:
                call(once.job(1))
            except BadJob as error:
                raised.append(error)

    async with testing.run(app) as test:
        await test.schedule(60, once.job(1))
        with pytest.raises(DuplicateJob):
            await test.enqueue(once.job(1))
        await test.enqueue(sender.job())
        await test.drain()
    assert len(raised) == 2
    assert "on_conflict='raise'" in str(raised[0])


async def test_job_that_ruby_pushed_is_held_to_it_or_buried_if_it_can_not_be_keyed(
    autojump_clock: trio.testing.MockClock,
):
    shop = Shop(Unique(by="customer"))
    async with testing.run(shop.app) as test:
        ruby = [Job("q", "Sync", [1, "a"]), Job("q", "Sync", [1, "b"]), Job("q", "Sync", []), Job("q", "Sync", [["x"]])]
        await test.enqueue(*ruby)
        await trio.sleep(1)
        assert shop.ran == [(1, "a")]
        assert {job.extra["error_message"] for job in test.dead} == {
            "Sync: argument customer, by which it is unique, is missing",
            "Sync: argument customer, by which it is unique, can't be keyed: expected int, got array",
        }
        shop.gate.set()
        await test.drain()
    assert shop.ran == [(1, "a")]
