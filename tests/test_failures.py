"""What is said of a failure."""

from __future__ import annotations

from trioworkers.failures import summary


def test_group_is_summed_up_by_its_root_causes():
    assert summary(ExceptionGroup("x", [ValueError("a")])) == ("ValueError", "a")
    assert summary(ExceptionGroup("x", [ValueError("a"), KeyError("b")])) == (
        "ExceptionGroup",
        "ValueError: a; KeyError: 'b'",
    )
