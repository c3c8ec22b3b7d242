"""Capsules at a real Redis: shares under full load, strict order, no slot lost to an empty queue, none to a paused one."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from servers import Server

from trioworkers import App, ConfigurationError, Context, FleetLimit
from trioworkers.cli.served_queues import narrow, read_queues
from trioworkers.engine.worker import Worker
from trioworkers.errors import WrongUsage

QUEUES = ("critical", "default", "low")


class Started:
    """An App with one capsule, and in which order jobs of which queue began."""

    def __init__(self, url: str, concurrency: int, queues: Mapping[str, int] | Sequence[str]) -> None:
        self.app = App(url)
        self.app.capsule("io", concurrency=concurrency, queues=queues)
        self.order: list[str] = []
        self.running = 0
        self.most = 0
        self.gate = trio.Event()
        self.one_goes = trio.Semaphore(0)
        for queue in queues:
            self.app.handler(queue, "Note")(self._handler(queue))
            self.app.handler(queue, "Hold")(self._holding(queue))
            self.app.handler(queue, "Turn")(self._taking_turns(queue))

    def _handler(self, queue: str) -> Any:
        async def note() -> None:
            self.order.append(queue)
            await trio.lowlevel.checkpoint()

        return note

    def _holding(self, queue: str) -> Any:
        async def hold() -> None:
            self.order.append(queue)
            self.running += 1
            self.most = max(self.most, self.running)
            await self.gate.wait()
            self.running -= 1

        return hold

    def _taking_turns(self, queue: str) -> Any:
        async def turn() -> None:
            self.order.append(queue)
            self.running += 1
            self.most = max(self.most, self.running)
            await self.one_goes.acquire()
            self.running -= 1

        return turn

    @asynccontextmanager
    async def working(self) -> AsyncIterator[Worker]:
        async with trio.open_nursery() as nursery:
            worker: Worker = await nursery.start(self.app.serve)
            yield worker
            worker.stop(0)

    async def until(self, condition: Any) -> None:
        with trio.fail_after(300):
            while not condition():
                await trio.sleep(0.01)


def push(server: Server, queue: str, count: int, job_class: str = "Note") -> None:
    jobs = [
        json.dumps({"class": job_class, "args": [], "jid": f"{queue}{number:020d}", "queue": queue, "retry": False})
        for number in range(count)
    ]
    server.command("SADD", "queues", queue)
    for first in range(0, count, 1000):
        server.command("LPUSH", f"queue:{queue}", *jobs[first : first + 1000])


async def test_shares_under_full_load_are_the_weights(redis_url: str, shared_server: Server):
    capsule = Started(redis_url, 20, {"critical": 6, "default": 3, "low": 1})
    for queue, count in (("critical", 7200), ("default", 4200), ("low", 2200)):
        push(shared_server, queue, count)
    async with capsule.working():
        await capsule.until(lambda: len(capsule.order) > 10_000)
    got = Counter(capsule.order[:10_000])
    for queue, share in (("critical", 6000), ("default", 3000), ("low", 1000)):
        assert abs(got[queue] - share) < share / 10, got


async def test_strict_order_lets_the_first_go_first(redis_url: str, shared_server: Server):
    capsule = Started(redis_url, 10, list(QUEUES))
    for queue in QUEUES:
        push(shared_server, queue, 500)
    async with capsule.working():
        await capsule.until(lambda: len(capsule.order) == 1500)
    for number, queue in enumerate(QUEUES):
        its = Counter(capsule.order[number * 500 : (number + 1) * 500])
        assert its[queue] > 450, its  # the first fill is whose fetch is there first


async def test_empty_queues_take_no_slot_from_one_that_is_full(redis_url: str, shared_server: Server):
    capsule = Started(redis_url, 3, {"critical": 6, "default": 3, "low": 1})
    async with capsule.working() as worker:
        push(shared_server, "low", 20, "Turn")
        await capsule.until(lambda: capsule.running == 3)
        assert worker.stats().free["critical"] == 0
        push(shared_server, "critical", 1, "Turn")
        await capsule.until(lambda: worker._served["critical"].slots.waits)
        # Shares are exact over as many slots as the weights add up to: each that becomes free is one.
        for _ in range(10):
            if "critical" in capsule.order:
                break
            started = len(capsule.order)
            capsule.one_goes.release()
            await capsule.until(lambda: len(capsule.order) > started)  # noqa: B023 - used at once
        assert "critical" in capsule.order
        for _ in range(21):
            capsule.one_goes.release()
        await capsule.until(lambda: len(capsule.order) == 21 and not capsule.running)
    assert capsule.most == 3


@pytest.mark.parametrize("queues", [{"critical": 6, "default": 3, "low": 1}, list(QUEUES)])
async def test_one_slot_serves_many_queues(redis_url: str, shared_server: Server, queues: Any):
    capsule = Started(redis_url, 1, queues)
    async with capsule.working():
        for _ in range(3):
            before = len(capsule.order)
            for queue in QUEUES:
                push(shared_server, queue, 1)
            await capsule.until(lambda: len(capsule.order) == before + 3)  # noqa: B023 - used at once
        await capsule.until(lambda: shared_server.command("KEYS", "*inprogress") == ["tw:inprogress"])
    assert Counter(capsule.order) == dict.fromkeys(QUEUES, 3)


async def test_share_of_a_paused_queue_goes_to_the_others(redis_url: str, shared_server: Server):
    capsule = Started(redis_url, 4, {"critical": 6, "default": 3, "low": 1})
    shared_server.command("SADD", "paused", "critical")
    async with capsule.working():
        push(shared_server, "critical", 10, "Hold")
        push(shared_server, "low", 10, "Hold")
        await capsule.until(lambda: capsule.running == 4)
        assert set(capsule.order) == {"low"}


async def test_queue_that_is_resumed_has_its_share_again(redis_url: str, shared_server: Server):
    capsule = Started(redis_url, 4, {"critical": 6, "default": 3, "low": 1})
    shared_server.command("SADD", "paused", "critical")
    async with capsule.working():
        push(shared_server, "critical", 3)
        push(shared_server, "low", 3)
        await capsule.until(lambda: len(capsule.order) == 3)
        shared_server.command("SREM", "paused", "critical")
        await capsule.until(lambda: len(capsule.order) == 6)
    assert capsule.order == ["low"] * 3 + ["critical"] * 3


async def test_queue_that_is_no_list_keeps_none_of_the_others_up(redis_url: str, shared_server: Server):
    capsule = Started(redis_url, 8, {"critical": 6, "default": 3, "low": 1})
    shared_server.command("SET", "queue:critical", "forged")
    async with capsule.working():
        for _ in range(3):
            before = len(capsule.order)
            push(shared_server, "default", 2)
            push(shared_server, "low", 2)
            await capsule.until(lambda: len(capsule.order) == before + 4)  # noqa: B023 - used at once
        shared_server.command("DEL", "queue:critical")
        push(shared_server, "critical", 1)
        await capsule.until(lambda: capsule.order[-1] == "critical")
    assert Counter(capsule.order) == {"default": 6, "low": 6, "critical": 1}


async def test_job_in_any_of_two_hundred_queues_starts_and_few_sockets_are_held(redis_url: str, shared_server: Server):
    names = [f"q{number}" for number in range(200)]
    before = connected(shared_server)
    capsule = Started(redis_url, 50, {name: 1 + number % 3 for number, name in enumerate(names)})
    async with capsule.working():
        for queue in ("q0", "q150", "q199", "q0"):
            push(shared_server, queue, 1)
            await capsule.until(lambda: capsule.order[-1:] == [queue])  # noqa: B023 - used at once
            capsule.order.clear()
        assert connected(shared_server) - before <= 10
        for queue in names:
            push(shared_server, queue, 3)
        await capsule.until(lambda: len(capsule.order) == 600)
    assert Counter(capsule.order) == dict.fromkeys(names, 3)


async def test_stop_puts_back_what_runs_in_a_few_of_many_queues(redis_url: str, shared_server: Server):
    names = [f"q{number}" for number in range(30)]
    capsule = Started(redis_url, 50, names)
    async with capsule.working():
        for queue in ("q3", "q17", "q29"):
            push(shared_server, queue, 2, "Hold")
        await capsule.until(lambda: capsule.running == 6)
    assert [shared_server.command("LLEN", f"queue:{queue}") for queue in ("q3", "q17", "q29", "q0")] == [2, 2, 2, 0]
    assert shared_server.command("KEYS", "*inprogress") == []


def connected(server: Server) -> int:
    """How many clients it has."""
    return int(str(server.command("INFO", "clients")).split("connected_clients:")[1].split()[0])


async def test_families_share_slots(redis_url: str, shared_server: Server):
    app = App(redis_url)
    app.queue("ruby")
    app.queue("resque", dialect="resque")
    app.queue("go", dialect="goworkers")
    app.capsule("io", concurrency=3, queues={"ruby": 1, "resque": 1, "go": 1})
    ran: Counter[str] = Counter()
    for queue in ("ruby", "resque", "go"):

        async def note(ctx: Context, queue: str = queue) -> None:
            ran[queue] += 1

        app.handler(queue, "Note")(note)
    push(shared_server, "ruby", 10)
    push(shared_server, "go", 10)
    for _ in range(10):
        shared_server.command("RPUSH", "resque:queue:resque", json.dumps({"class": "Note", "args": []}))
    async with trio.open_nursery() as nursery:
        worker = await nursery.start(app.serve)
        with trio.fail_after(60):
            while ran.total() < 30:
                await trio.sleep(0.01)
        for _ in range(2):  # it is idle, and each comes by itself
            shared_server.command("RPUSH", "resque:queue:resque", json.dumps({"class": "Note", "args": []}))
        with trio.fail_after(60):
            while ran["resque"] < 12:
                await trio.sleep(0.01)
        worker.stop()
    assert ran == {"ruby": 10, "resque": 12, "go": 10}


@pytest.mark.parametrize("more", [0, 20])
async def test_queue_under_a_limit_shares_slots(redis_url: str, shared_server: Server, more: int):
    app = App(redis_url)
    app.queue("narrow", limit=FleetLimit("crm", concurrency=1))
    app.queue("wide")
    app.capsule("io", concurrency=4, queues={"narrow": 3, "wide": 1} | {f"q{n}": 1 for n in range(more)})
    for number in range(more):
        app.handler(f"q{number}", "Note")(Started(redis_url, 1, ["x"])._handler("x"))
    running: Counter[str] = Counter()
    most: Counter[str] = Counter()
    ended: Counter[str] = Counter()
    for queue in ("narrow", "wide"):

        async def note(ctx: Context, queue: str = queue) -> None:
            running[queue] += 1
            most[queue] = max(most[queue], running[queue])
            await trio.sleep(0.002)
            running[queue] -= 1
            ended[queue] += 1

        app.handler(queue, "Note")(note)
    push(shared_server, "narrow", 20)
    push(shared_server, "wide", 20)
    async with trio.open_nursery() as nursery:
        worker = await nursery.start(app.serve)
        with trio.fail_after(60):
            while ended.total() < 40:
                await trio.sleep(0.01)
            for number in range(1, 4):  # it is idle, and each comes by itself
                push(shared_server, "narrow", 1)
                while ended["narrow"] < 20 + number:
                    await trio.sleep(0.01)
        worker.stop()
    assert most["narrow"] == 1
    assert most["wide"] > 1


async def test_sidekiq_s_tools_see_it(redis_url: str, shared_server: Server):
    capsule = Started(redis_url, 7, {"critical": 6, "low": 1})
    capsule.app.capsule("rest", concurrency=2, queues=["a", "b"])
    capsule.app.queue("alone", concurrency=3)
    for queue in ("a", "b", "alone"):
        capsule.app.handler(queue, "Note")(capsule._handler(queue))
    async with capsule.working() as worker:
        record = shared_server.command("HGETALL", str(worker.identity))
        assert isinstance(record, list)
        fields = dict(zip(record[::2], record[1::2], strict=True))
        info = json.loads(fields["info"])
    assert info["concurrency"] == 12
    assert fields["concurrency"] == "12"
    assert info["capsules"] == {
        "io": {"concurrency": 7, "mode": "weighted", "weights": {"critical": 6, "low": 1}},
        "rest": {"concurrency": 2, "mode": "strict", "weights": {"a": 0, "b": 0}},
        "alone": {"concurrency": 3, "mode": "strict", "weights": {"alone": 0}},
    }
    assert info["weights"] == [{"critical": 6, "low": 1}, {"a": 0, "b": 0}, {"alone": 0}]
    assert set(info["queues"]) == {"critical", "low", "a", "b", "alone"}


@pytest.mark.parametrize(
    ("concurrency", "queues", "why"),
    [
        (0, {"a": 1}, "concurrency is a whole number from 1 to 1000000, not 0"),
        (True, {"a": 1}, "concurrency is a whole number"),
        (5, {}, "queues is a list of names"),
        (5, "critical", "queues is a list of names"),
        (5, {"a": 0}, "queue 'a': a weight is a whole number from 1 to 1000, not 0"),
        (5, {"a": 1.5}, "not 1.5"),
        (5, {"a": True}, "not True"),
        (5, {"a": -1}, "not -1"),
        (5, {"a": "3"}, "not '3'"),
        (5, {"a": None}, "not None"),
        (5, {"a": math.nan}, "not nan"),
        (5, {"a": 10**6}, "not 1000000"),
        (5, {"a": 10**400}, f"queue 'a': a weight is a whole number from 1 to 1000, not {10**79}"),
        pytest.param(5, {"a": 10**5000}, "not something of type int that can't be shown", id="weight without end"),
        pytest.param(10**400, {"a": 1}, f"concurrency is a whole number from 1 to 1000000, not {10**79}", id="huge"),
        pytest.param(10**5000, {"a": 1}, "not something of type int that can't be shown", id="concurrency without end"),
        (math.nan, {"a": 1}, "concurrency is a whole number from 1 to 1000000, not nan"),
        (5, ["a", "a"], "queue 'a' is named twice"),
        (5, ["a b"], "a queue's name"),
        (5, [["a"]], "a queue's name"),
        (5, [f"q{number}" for number in range(1001)], "1001 queues are too many"),
        (5, {"taken": 1}, "queue 'taken' is in two capsules, 'first' and 'io'"),
        (5, {"own": 1}, "queue 'own' is in capsule 'io': it has no concurrency of its own"),
    ],
)
def test_what_makes_no_sense_is_refused(concurrency: Any, queues: Any, why: str):
    app = App()
    app.capsule("first", concurrency=1, queues=["taken"])
    app.queue("own", concurrency=2)
    with pytest.raises(ConfigurationError) as caught:
        app.capsule("io", concurrency=concurrency, queues=queues)
    assert why in str(caught.value)
    assert [capsule.name for capsule in app.capsules] == ["first", "own"]


def test_what_is_said_of_its_queues_holds_and_their_concurrency_is_refused():
    app = App()
    app.capsule("io", concurrency=4, queues=["a", "b"])
    app.queue("a", unknown="leave")
    with pytest.raises(ConfigurationError, match="queue 'b' is in capsule 'io'"):
        app.queue("b", concurrency=1)
    with pytest.raises(ConfigurationError, match="declared twice"):
        app.capsule("io", concurrency=4, queues=["c"])
    app.handler("a", "A")(Started("redis://h", 1, ["x"])._handler("a"))
    with pytest.raises(ConfigurationError, match="queue 'b' has no handler"):
        app.check()


def test_command_line_makes_two_fleets_of_one_app():
    app = App()
    app.capsule("io", concurrency=4, queues={"a": 2, "b": 1, "c": 1})
    app.queue("d", concurrency=5)
    narrow(app, read_queues("a, d", None))
    assert app.queues == {"a": 4, "d": 5}
    assert [(each.name, each.concurrency, dict(each.weights)) for each in app.capsules] == [
        ("io", 4, {"a": 2}),
        ("d", 5, {"d": 1}),
    ]
    other = App()
    other.capsule("io", concurrency=4, queues=["a", "b", "c"])
    narrow(other, read_queues("b=3,a=1", 50))
    assert other.queues == {"b": 50, "a": 50}
    (capsule,) = other.capsules
    assert (capsule.concurrency, dict(capsule.weights), capsule.strict) == (50, {"b": 3, "a": 1}, False)
    another = App()
    another.capsule("io", concurrency=4, queues={"a": 1, "b": 9})
    narrow(another, read_queues("b,a", 2))
    assert another.capsules[0].strict
    with pytest.raises(WrongUsage, match="--queues: the App has no queue 'x'; it has a, b"):
        narrow(another, read_queues("x", None))


def named(app: App) -> list[tuple[str, int, dict[str, int], bool]]:
    return [(each.name, each.concurrency, dict(each.weights), each.strict) for each in app.capsules]


def test_command_line_chooses_and_makes_capsules():
    def app() -> App:
        made = App()
        made.capsule("io", concurrency=4, queues={"a": 2, "b": 1})
        made.capsule("reports", concurrency=1, queues=["c", "d"])
        made.queue("e", concurrency=5)
        return made

    def narrowed(*capsules: str, queues: str | None = None, concurrency: int | None = None) -> App:
        found = app()
        narrow(found, read_queues(queues, concurrency, capsules))
        return found

    assert named(narrowed("reports")) == [("reports", 1, {"c": 1, "d": 1}, True)]
    assert narrowed("reports").queues == {"c": 1, "d": 1}
    assert named(narrowed("io=50", "e")) == [("io", 50, {"a": 2, "b": 1}, False), ("e", 5, {"e": 1}, True)]
    assert named(narrowed("io=b,a")) == [("io", 4, {"b": 1, "a": 1}, True)]
    assert named(narrowed("io=b=3,e=1")) == [("io", 4, {"b": 3, "e": 1}, False)]
    assert named(narrowed("mine=7:a=1,c=2")) == [("mine", 7, {"a": 1, "c": 2}, False)]
    assert named(narrowed("reports", queues="a,e", concurrency=9)) == [
        ("queues", 9, {"a": 1, "e": 1}, True),
        ("reports", 1, {"c": 1, "d": 1}, True),
    ]
    assert named(narrowed("reports", queues="a")) == [
        ("io", 4, {"a": 2}, False),
        ("reports", 1, {"c": 1, "d": 1}, True),
    ]
    with pytest.raises(WrongUsage, match="--capsule: the App has no capsule 'x'; it has io, reports, e, or say all"):
        narrowed("x")
    with pytest.raises(WrongUsage, match="--capsule: the App has no capsule 'x'"):
        narrowed("x=a,b")
    with pytest.raises(WrongUsage, match="--capsule: the App has no queue 'x'; it has a, b, c, d, e"):
        narrowed("io=3:x")
    with pytest.raises(WrongUsage, match="--capsule: queue 'a' is in two capsules, 'io' and 'mine'"):
        narrowed("io", "mine=1:a")


NO_WEIGHTS = ("-1", "1.5", "True", '"3"', "nan", "1e3", "+3", "٣", "9" * 30, "1" * 70)
"""As people type them. What is longer is cut."""


@pytest.mark.parametrize(
    ("capsule", "why"),
    [
        ("io=0", "concurrency is a whole number from 1 to 1000000, not 0"),
        ("io=0:a", "concurrency is a whole number from 1 to 1000000, not 0"),
        ("=5:a", "a capsule's name is 1 to 128 printable"),
        ("io=5:a,", "a queue's name is missing"),
        ("io=5:a,a", "queue 'a' is named twice"),
        ("io=5:a=1,a=2", "a queue is named twice"),
        ("io=5:a=1,b", "weights are for all queues of a capsule"),
        ("io=5:a=0", "a weight is a whole number from 1 to 1000, not 0"),
        ("io:a=6,b=3", "after a capsule's name comes =, NAME=50:critical=6,default=3, not 'io:a=6,b=3'"),
        *(
            (f"io=5:a={weight},b=1", f"queue 'a': a weight is a whole number from 1 to 1000, not {weight!r}")
            for weight in NO_WEIGHTS
        ),
        ("io=5:a=x", "queue 'a': a weight is a whole number from 1 to 1000, not 'x'"),
    ],
)
def test_capsule_of_the_command_line_that_makes_no_sense_is_refused(capsule: str, why: str):
    with pytest.raises(WrongUsage) as caught:
        read_queues(None, None, [capsule])
    assert why in str(caught.value)
    assert "--" in str(caught.value)
    with pytest.raises(WrongUsage, match="'io' is named twice"):
        read_queues(None, None, ["io", "io=5"])


@pytest.mark.parametrize(
    ("text", "concurrency", "why"),
    [
        (None, 5, "--concurrency is for --queues"),
        ("a=6,b", 5, "weights are for all queues"),
        ("a=6", None, "and for --concurrency"),
        *(
            (f"a={weight},b=1", 5, f"queue 'a': a weight is a whole number from 1 to 1000, not {weight!r}")
            for weight in NO_WEIGHTS
        ),
        ("a", 10**6 + 1, "--concurrency: concurrency is a whole number from 1 to 1000000, not 1000001"),
        ("a=x", 5, "queue 'a': a weight is a whole number from 1 to 1000, not 'x'"),
        ("a=0", 5, "a weight is a whole number from 1 to 1000, not 0"),
        ("a=1,a=2", 5, "named twice"),
        ("a,a", None, "named twice"),
        (",", None, "a queue's name is missing"),
        ("a", 0, "--concurrency: concurrency is a whole number from 1 to 1000000"),
    ],
)
def test_command_line_that_makes_no_sense_is_refused(text: str | None, concurrency: int | None, why: str):
    with pytest.raises(WrongUsage) as caught:
        read_queues(text, concurrency)
    assert why in str(caught.value)
