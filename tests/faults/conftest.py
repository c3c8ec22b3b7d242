"""Fixtures of the fault suite, and the table of what it measured."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from proxy import Proxy
from servers import Server


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    proxy = Proxy(server.port)
    yield proxy
    proxy.close()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """A line for each fault case that counted runs: `make faults` shows them, docs/reliability.md quotes them."""
    rows = []
    for report in terminalreporter.stats.get("", []):  # where pytest keeps set-ups and teardowns that passed
        measured = dict(report.user_properties).get("measured") if report.when == "teardown" else None
        if measured and measured["runs"]:
            recovery_s = measured["recovery_s"]
            name = report.nodeid.rpartition("::")[2].removeprefix("test_").replace("_", " ")
            rows.append((name, measured, "-" if recovery_s is None else f"{recovery_s:.2f} s"))
    if rows and terminalreporter.config.option.verbose > 0:
        terminalreporter.section("faults")
        terminalreporter.write_line(f"{'jobs':>6} {'runs':>6} {'extra':>6} {'recovery':>9}  fault")
        for name, measured, recovery in sorted(rows):
            counts = f"{measured['jobs']:>6} {measured['runs']:>6} {measured['extra_runs']:>6}"
            terminalreporter.write_line(f"{counts} {recovery:>9}  {name}")
