"""docs/testing.md: its tests pass, as they stand there, with nothing but the plugin."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pages import write_programs
from servers import ROOT

PLUGINS = ("-p", "no:cacheprovider", "-p", "pytest_trio.plugin", "-p", "trioworkers.pytest_plugin")
"""Named, whether this environment knows of them by their installation or not."""


def test_the_tests_of_the_page_pass(tmp_path: Path):
    write_programs("testing.md", tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *PLUGINS],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "7 passed" in done.stdout, done.stdout + done.stderr
