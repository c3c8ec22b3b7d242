"""`make release-notes`: what a release says of itself comes from the changelog and the fragments, whole, and can be read elsewhere."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys

import pytest
from servers import ROOT
from test_changes import FRAGMENTS

PROGRAM = ROOT / "docs" / "release_notes.py"
IT = runpy.run_path(str(PROGRAM))
CHANGELOG = """# Changelog

## [Unreleased]

### Added

- Not yet.

## [0.2.0] – 2026-12-01

### Added

- A door, see
  [doors](doors.md#front).

### Fixed

- A hinge.

### Added

- A window.

## [0.1.0] – 2026-11-01

### Added

- All of it.
"""


def written(version: str, **environment: str) -> str:
    told = {**os.environ, **environment}
    done = subprocess.run([sys.executable, str(PROGRAM), version], env=told, capture_output=True, text=True, check=True)
    return done.stdout


def test_notes_have_every_change_since_the_last_release_and_no_link_that_leads_nowhere():
    text = written("9.9.9")
    for path in FRAGMENTS:
        first = re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", path.read_text(encoding="utf-8").splitlines()[0])
        assert first in text, path
    assert "Middleware sees `UnknownClass`, too." in text  # from before there were fragments
    assert re.findall(r"\]\((?!https?://)", text) == []
    headings = re.findall(r"^## .*", text, re.MULTILINE)
    assert len(headings) == len(set(headings)) >= 3
    assert "pip install --upgrade 'trioworkers==9.9.9'" in text


def test_links_lead_to_the_version_where_the_repository_can_be_seen():
    text = IT["notes"]("0.2.0", IT["by_kind"](IT["section"](CHANGELOG, "0.2.0")), "https://example.org/t")
    assert "[doors](https://example.org/t/blob/v0.2.0/docs/doors.md#front)" in text


def test_a_version_that_the_changelog_has_is_taken_from_there():
    changes = IT["by_kind"](IT["section"](CHANGELOG, "0.2.0"))
    assert changes == {"Added": ["- A door, see\n  [doors](doors.md#front).", "- A window."], "Fixed": ["- A hinge."]}
    assert IT["section"](CHANGELOG, "0.3.0") is None


def test_a_kind_that_nobody_knows_is_not_left_out_in_silence():
    with pytest.raises(KeyError, match="Odd"):
        IT["notes"]("1", {"Odd": ["- x"]}, "")
