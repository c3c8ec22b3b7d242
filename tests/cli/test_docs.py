"""docs/cli.md is written from the commands, and is current."""

from __future__ import annotations

from pathlib import Path

from trioworkers.cli.docs import page


def test_documentation_is_current():
    written = (Path(__file__).parent.parent.parent / "docs" / "cli.md").read_text()
    assert written == page(), "run `make docs`"
