"""The picture in docs/internals.md is what its command draws."""

from __future__ import annotations

import runpy

from servers import ROOT


def test_picture_of_the_joints_is_current():
    drawn = runpy.run_path(str(ROOT / "docs" / "draw_joints.py"))["picture"]()
    assert (ROOT / "docs" / "joints.svg").read_text() == drawn, "make docs"
