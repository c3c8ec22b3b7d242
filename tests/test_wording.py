"""Counts as people say them."""

from __future__ import annotations

import pytest

from trioworkers.wording import counted


@pytest.mark.parametrize(("count", "text"), [(0, "0 jobs"), (1, "1 job"), (2, "2 jobs"), (1204, "1,204 jobs")])
def test_one_is_singular_and_thousands_are_apart(count: int, text: str):
    assert counted(count, "job") == text
