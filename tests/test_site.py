"""The pages make a site: no link within leads nowhere, no code is in an unknown language."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from servers import ROOT


def test_site_is_built_without_a_warning(tmp_path: Path):
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q", "docs", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    pages = {page.stem for page in (ROOT / "docs").glob("*.md")}
    assert pages <= {page.stem for page in (tmp_path / "site").glob("*.html")}
    assert "Flask" in (tmp_path / "site" / "frameworks.html").read_text()
