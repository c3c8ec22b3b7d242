"""What a process of ours sets of the garbage collector while it runs, and puts back."""

from __future__ import annotations

import gc
import linecache
from collections.abc import Iterator

import pytest

from trioworkers.process.collector import THRESHOLDS, hurried_collector, patient_collector, thresholds_for


@pytest.fixture(autouse=True)
def thresholds() -> Iterator[tuple[int, int, int]]:
    before = gc.get_threshold()
    yield before
    gc.set_threshold(*before)


def test_collector_is_patient_while_we_run_and_as_before_afterwards(thresholds: tuple[int, int, int]):
    with patient_collector(10):
        assert gc.get_threshold() == THRESHOLDS
        assert gc.get_freeze_count() > 0
    assert gc.get_threshold() == thresholds
    assert gc.get_freeze_count() == 0


def test_text_of_code_is_let_go_and_read_again_when_it_is_wanted():
    first = linecache.getline(__file__, 1)
    assert linecache.cache
    with patient_collector(10):
        assert not linecache.cache
        assert linecache.getline(__file__, 1) == first


def test_collector_that_somebody_has_tuned_is_left_alone():
    gc.set_threshold(5000, 10, 10)
    with patient_collector(10):
        assert gc.get_threshold() == (5000, 10, 10)


def test_collector_that_somebody_has_switched_off_stays_off():
    gc.disable()
    try:
        with patient_collector(10):
            assert not gc.isenabled()
            assert gc.get_threshold() != THRESHOLDS
    finally:
        gc.enable()


def test_worker_is_as_patient_when_a_command_has_begun_it(thresholds: tuple[int, int, int]):
    with hurried_collector():
        with patient_collector(10):
            assert gc.get_threshold() == THRESHOLDS
            assert gc.get_freeze_count() > 0
        assert gc.get_threshold() == THRESHOLDS
    assert gc.get_threshold() == thresholds


@pytest.mark.parametrize(
    ("slots", "young"), [(0, 10_000), (10, 10_000), (100, 25_000), (1000, 50_000), (100_000, 50_000)]
)
def test_more_slots_let_more_objects_come_before_python_looks(slots: int, young: int):
    with patient_collector(slots):
        assert gc.get_threshold() == thresholds_for(slots)
    assert thresholds_for(slots)[0] == young


@pytest.mark.parametrize("slots", [1, 40, 100, 150, 1000])
def test_oldest_generation_is_looked_at_as_seldom_with_any_slots(slots: int):
    young, middle, old = thresholds_for(slots)
    assert 1_500_000 < young * middle * old <= 2_000_000
