"""Twenty seconds of the soak; `make soak` runs it for as long as you like."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from rich.console import Console
from soak import Soak
from topologies import TOPOLOGIES


@pytest.mark.parametrize(
    "topology", [pytest.param(name, marks=() if name == "one" else pytest.mark.slow) for name in TOPOLOGIES]
)
def test_nothing_is_lost_under_random_faults(tmp_path: Path, topology: str):
    seed = int.from_bytes(os.urandom(2), "big")
    report = Soak(tmp_path, seed, topology).run(20)
    Console().print(report.table())
    assert report.passed, report
    assert report.jobs > 500 or topology != "one"
