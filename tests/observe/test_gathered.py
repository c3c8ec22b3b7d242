"""What several processes count, added up: with some that end, are killed, are silent, and when who gathers is started anew."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.parser import text_string_to_metric_families

from trioworkers.observe import gathered, shared
from trioworkers.observe.gathered import Gathered
from trioworkers.observe.shared import SUFFIX, Told, decode, telling


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever answers here does so by a thread of ours, whenever that gets its turn."""
    monkeypatch.setattr(gathered, "PATIENCE_S", 60.0)


class Counting:
    """What a process counts, as `Metrics` has it."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.settled = Counter("trioworkers_settled", "", registry=self.registry)
        self.took = Histogram("trioworkers_took", "", ("queue",), buckets=(1.0,), registry=self.registry)
        self.slots = Gauge("trioworkers_slots", "", ("queue",), registry=self.registry)
        self.up = Gauge("trioworkers_redis_up", "", registry=self.registry)
        self.lag = Gauge("trioworkers_event_loop_lag_seconds", "", registry=self.registry)

    def work(self, jobs: int, *, slots: int = 3, up: int = 1, lag_s: float = 0.0, queue: str = "q") -> None:
        self.settled.inc(jobs)
        self.took.labels(queue).observe(0.5)
        self.slots.labels(queue).set(slots)
        self.up.set(up)
        self.lag.set(lag_s)


@contextmanager
def process(directory: Path, name: str) -> Iterator[Counting]:
    counting: Any = Counting()
    with telling(directory, name, counting):
        yield counting


def values(what: Gathered) -> dict[str, float]:
    found = {}
    for family in text_string_to_metric_families(what.text().decode()):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name.removeprefix('trioworkers_')}{{{labels}}}"] = sample.value
    return found


def test_figures_are_added_and_of_some_the_worst_counts(tmp_path: Path):
    with process(tmp_path, "1") as one, process(tmp_path, "2") as two:
        one.work(5, lag_s=0.1)
        two.work(7, slots=4, up=0, lag_s=0.3, queue="other")
        found = values(Gathered(tmp_path))
    assert found["settled_total{}"] == 12
    assert (found["slots{queue=q}"], found["slots{queue=other}"]) == (3, 4)
    assert (found["took_count{queue=q}"], found["took_bucket{le=1.0,queue=other}"]) == (1, 1)
    assert (found["redis_up{}"], found["event_loop_lag_seconds{}"]) == (0, 0.3)
    assert found["worker_processes{}"] == 2
    assert not any("created" in name for name in found)


def test_process_tells_whatever_timeout_its_program_has_for_sockets(tmp_path: Path):
    socket.setdefaulttimeout(0.0)
    try:
        with process(tmp_path, "1"):
            told = [values(Gathered(tmp_path))["worker_processes{}"] for _ in range(3)]
        assert told == [1, 1, 1]
    finally:
        socket.setdefaulttimeout(None)


def test_counters_never_fall_whoever_ends(tmp_path: Path):
    what = Gathered(tmp_path)
    with process(tmp_path, "1") as stays:
        stays.work(10)
        with process(tmp_path, "2") as leaves:
            leaves.work(5)
            assert values(what)["settled_total{}"] == 15
            leaves.work(2)  # after it was asked for the last time
        found = values(what)
        assert (found["settled_total{}"], found["slots{queue=q}"]) == (17, 3)
        assert found["worker_processes{}"] == 1
        with process(tmp_path, "2") as follows:
            follows.work(1)
            assert values(what)["settled_total{}"] == 18
        stays.work(1)
        assert values(what)["settled_total{}"] == 19
    assert values(what)["settled_total{}"] == 19
    assert list(tmp_path.iterdir()) == []


def test_of_one_that_was_killed_counts_what_it_said_last(tmp_path: Path):
    what = Gathered(tmp_path)
    with process(tmp_path, "1") as counting:
        counting.work(5)
        assert values(what)["settled_total{}"] == 5
        (tmp_path / "aside").mkdir()
        for path in tmp_path.glob(f"*{SUFFIX}"):
            path.rename(tmp_path / "aside" / path.name)  # as it were after kill -9: nobody behind it, no last word
        dead = socket.socket(socket.AF_UNIX)
        dead.bind(str(tmp_path / next((tmp_path / "aside").iterdir()).name))
        dead.close()
        found = values(what)
        assert found["settled_total{}"] == 5
        assert "slots{queue=q}" not in found
        assert found["worker_processes{}"] == 0
        assert list(tmp_path.glob(f"*{SUFFIX}")) == []


def test_one_that_is_silent_keeps_what_it_counted_and_holds_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gathered, "PATIENCE_S", 2.0)
    with ExitStack() as stack:
        frozen = stack.enter_context(socket.socket(socket.AF_UNIX))
        frozen.bind(str(tmp_path / f"1-1{SUFFIX}"))
        frozen.listen(1)  # and nobody accepts; later ones don't even get in
        one = stack.enter_context(process(tmp_path, "2"))
        one.work(5)
        what = Gathered(tmp_path)
        for _ in range(2):
            found = values(what)
            assert (found["settled_total{}"], found["worker_processes{}"]) == (5, 1)


def test_who_gathers_from_now_on_begins_with_nothing_of_before(tmp_path: Path):
    with process(tmp_path, "1") as one:
        one.work(10)
        with process(tmp_path, "2") as two:
            two.work(100)
        what = Gathered(tmp_path, goes_on=True)
        assert values(what)["settled_total{}"] == 0
        one.work(3)
        with process(tmp_path, "3") as three:
            three.work(4)
            assert values(what)["settled_total{}"] == 7
    assert values(what)["settled_total{}"] == 7
    assert values(what)["took_count{queue=q}"] == 2


def test_who_was_silent_when_it_began_is_not_counted_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with process(tmp_path, "1") as one:
        one.work(10)
        told = Gathered(tmp_path)
        assert values(told)["settled_total{}"] == 10
        asked = Gathered._ask
        monkeypatch.setattr(  # there, and silent
            Gathered, "_ask", lambda self: attrs.evolve((found := asked(self)), said=dict.fromkeys(found.said))
        )
        what = Gathered(tmp_path, goes_on=True)
        monkeypatch.undo()
        one.work(2)  # nobody can know that these came later
        assert values(what)["settled_total{}"] == 0
        one.work(3)
        assert values(what)["settled_total{}"] == 3
    assert values(what)["settled_total{}"] == 3


@pytest.mark.parametrize("goes_on", [False, True])
def test_one_that_is_held_up_while_it_goes_is_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, goes_on: bool
):
    """Whoever gathers looks before and after each step of leaving; all that time somebody may answer at the socket."""
    one = process(tmp_path, "1")
    one.__enter__().work(10)
    what = Gathered(tmp_path, goes_on=goes_on)
    found = []

    def look() -> None:
        with monkeypatch.context() as patched:
            patched.setattr(gathered, "PATIENCE_S", 0.0)  # it is there, and silent
            found.append(values(what).get("settled_total{}", 0))
        found.append(values(what)["settled_total{}"])

    def looked(call: Callable[..., Any]) -> Callable[..., Any]:
        def call_and_look(*args: Any) -> Any:
            look()
            result = call(*args)
            look()
            return result

        return call_and_look

    look()
    with monkeypatch.context() as patched:
        for name in ("write_bytes", "rename"):
            patched.setattr(shared.Path, name, looked(getattr(Path, name)))
        one.__exit__(None, None, None)
    look()
    assert found[1:] == [0 if goes_on else 10] * 11
    assert list(tmp_path.iterdir()) == []


def test_one_that_goes_while_who_gathers_begins_anew_is_not_counted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    one = process(tmp_path, "1")
    one.__enter__().work(10)
    asked = Gathered._ask

    def ask(self: Gathered) -> Any:
        one.__exit__(None, None, None)
        return asked(self)

    monkeypatch.setattr(Gathered, "_ask", ask)
    what = Gathered(tmp_path, goes_on=True)
    monkeypatch.undo()
    assert values(what).get("settled_total{}", 0) == 0
    assert list(tmp_path.iterdir()) == []


def test_one_that_has_the_number_of_one_that_ended_is_another(tmp_path: Path):
    what = Gathered(tmp_path)
    for jobs in (5, 3):  # this process has one number
        with process(tmp_path, "1") as one:
            one.work(jobs)
            assert values(what)["settled_total{}"] == (5 if jobs == 5 else 8)


def test_who_is_about_to_listen_is_not_taken_for_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    what = Gathered(tmp_path)

    class Slow(socket.socket):
        def listen(self, backlog: int = 0, /) -> None:
            assert values(what)["worker_processes{}"] == 0
            super().listen(backlog)

    with monkeypatch.context() as patched:
        patched.setattr(socket, "socket", Slow)
        one = process(tmp_path, "1")
        counting = one.__enter__()
    counting.work(5)
    assert values(what)["settled_total{}"] == 5
    one.__exit__(None, None, None)


@pytest.mark.parametrize("text", [b"", b"\x00", b"\xc1" * 10, b"[]", b"\x91\x90"])
def test_what_is_cut_off_or_something_else_is_no_answer(text: bytes):
    assert decode(text) is None or decode(text) == list[Told]()
