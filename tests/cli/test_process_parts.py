"""The records of one process at several Redises, put together."""

from __future__ import annotations

from typing import Any

import attrs

from trioworkers.wire.process_parts import together
from trioworkers.wire.process_records import Process, decode_process

PLAIN = decode_process("h:1:aaaaaaaaaaaa", {b"info": b'{"labels":["trioworkers"],"tag":"","concurrency":10}'})


def part(identity: str, **fields: Any) -> Process:
    return attrs.evolve(PLAIN, **{"identity": identity, "process_id": identity, **fields})


def test_parts_of_one_process_are_one_that_has_the_jobs_of_all_and_the_slots_once() -> None:
    a = part("h:1:aaaaaaaaaaaa", busy=3, beat_s=5.0, rss_kb=7, queues={"x": 10}, rates={"x": 1.0}, quiet=True)
    b = part("h:1:bbbbbbbbbbbb", busy=4, beat_s=4.0, rss_kb=9, queues={"x": 10, "y": 2}, rates={"x": 0.5, "y": 2.0})
    [found] = together({"a": [a], "b": [b]})
    whole = found.whole
    assert dict(found.at) == {"a": a, "b": b}
    assert (whole.identity, whole.process_id) == ("h:1", "h:1")
    assert (whole.busy, whole.concurrency, whole.beat_s, whole.rss_kb, whole.quiet) == (7, 10, 4.0, 9, False)
    assert (whole.queues, whole.rates) == ({"x": 10, "y": 2}, {"x": 1.5, "y": 2.0})


def test_a_process_is_called_the_same_while_a_shard_is_away() -> None:
    [found] = together({"a": [part("h:1:aaaaaaaaaaaa")]})
    assert found.whole.process_id == "h:1"
    [found] = together({"a": [part("h:1:aaaaaaaaaaaa", process_id="w1")]})
    assert found.whole.process_id == "w1"


def test_what_only_looks_like_one_process_is_several() -> None:
    same = [part("h:1:aaaaaaaaaaaa"), part("h:1:bbbbbbbbbbbb")]  # two workers in one program
    assert [each.whole for each in together({"a": same, "b": []})] == same
    named = {"a": [part("h:1:aaaaaaaaaaaa", process_id="w1")], "b": [part("h:1:bbbbbbbbbbbb", process_id="w2")]}
    assert [each.whole.process_id for each in together(named)] == ["w1", "w2"]
    ruby = {name: [part("h:1:cccccccccccc", is_ours=False, process_id="")] for name in "ab"}
    assert len(together(ruby)) == 2


def test_processes_of_one_redis_are_as_they_are() -> None:
    there = [part("h:1:aaaaaaaaaaaa"), part("h:2:bbbbbbbbbbbb", process_id="w2")]
    assert [each.whole for each in together({"": there})] == there
