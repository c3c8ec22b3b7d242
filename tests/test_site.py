"""The pages make a site: no link within leads nowhere, no code is in an unknown language, each public name is in the reference."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from servers import ROOT
from test_public_names import ERRORS, PUBLIC


def test_site_is_built_without_a_warning(tmp_path: Path):
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q", "docs", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    pages = {page.stem for page in (ROOT / "docs").glob("*.md")}
    assert pages <= {page.stem for page in (tmp_path / "site").glob("*.html")}
    assert "Flask" in (tmp_path / "site" / "frameworks.html").read_text()
    reference = (tmp_path / "site" / "reference.html").read_text()
    names = [f"errors.{name}" if name in ERRORS else name for name in PUBLIC]
    assert [name for name in names if f'id="trioworkers.{name}"' not in reference] == []
    assert "Not for users" not in reference
