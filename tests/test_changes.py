"""Fragments of the changelog are named and written so that none is left out of it. `docs/changes/README.md` says how."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from servers import ROOT

FOLDER = ROOT / "docs" / "changes"
CONFIGURATION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["towncrier"]
FRAGMENTS = [path for path in sorted(FOLDER.iterdir()) if path.name not in CONFIGURATION["ignore"]]


def fault_of(path: Path) -> str | None:
    """What is wrong with a fragment."""
    kinds = "|".join(CONFIGURATION["fragment"])
    if not re.fullmatch(rf"[a-z0-9]+(-[a-z0-9]+)*\.({kinds})\.md", path.name):
        return f"it is called NAME.KIND.md, where KIND is one of {kinds}"
    lines = path.read_text(encoding="utf-8").splitlines()
    if not lines or not all(re.match(r"- \S|  \S", line) for line in lines) or not lines[0].startswith("- "):
        return "it holds a list: each item begins with a dash, and goes on two spaces in"
    return None


@pytest.mark.parametrize("path", FRAGMENTS, ids=lambda path: path.name)
def test_fragment_will_be_found(path: Path):
    assert fault_of(path) is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("lenient.bugfix.md", "- Good.\n"),
        ("lenient.fixed.txt", "- Good.\n"),
        ("fixed.md", "- Good.\n"),
        ("Too_odd.fixed.md", "- Good.\n"),
        ("lenient.fixed.md", ""),
        ("lenient.fixed.md", "No list.\n"),
        ("lenient.fixed.md", "  - Indented.\n"),
        ("lenient.fixed.md", "- Good,\nbut not in the list any more.\n"),
    ],
)
def test_fragment_that_would_not_be_found_is_told(tmp_path: Path, name: str, text: str):
    (tmp_path / name).write_text(text)
    assert fault_of(tmp_path / name) is not None


def test_all_of_them_come_into_the_changelog():
    command = [sys.executable, "-m", "towncrier", "build", "--draft", "--version", "1.2.3", "--dir", str(ROOT)]
    page = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True).stdout
    assert "## [1.2.3] – " in page
    assert [path.name for path in FRAGMENTS if path.read_text(encoding="utf-8").strip() not in page] == []
