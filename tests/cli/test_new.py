"""`trioworkers new` writes what works as it stands, and nothing over anything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def test_what_it_writes_passes_its_own_test(tmp_path: Path):
    assert "wrote shop.py and test_shop.py" in run(tmp_path, "trioworkers", "new", "shop").stdout
    done = run(tmp_path, "pytest", "-q", "-p", "no:cacheprovider")
    assert "3 passed" in done.stdout, done.stdout


@pytest.mark.parametrize("name", ["app.py", "test_app.py"])
def test_it_overwrites_nothing(tmp_path: Path, name: str):
    (tmp_path / name).write_text("mine")
    done = run(tmp_path, "trioworkers", "new")
    assert done.returncode == 1
    assert (
        done.stderr
        == f"trioworkers: {name} is there already: nothing was written; for another name: trioworkers new NAME\n"
    )
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "mine")]


@pytest.mark.parametrize("name", ["json", "trio.py"])
def test_name_that_would_hide_a_module_is_refused(tmp_path: Path, name: str):
    assert "would hide the module" in run(tmp_path, "trioworkers", "new", name).stderr
    assert not list(tmp_path.iterdir())


def test_name_that_python_would_not_take_is_refused(tmp_path: Path):
    assert "no name for a Python module" in run(tmp_path, "trioworkers", "new", "../x").stderr
    assert not list(tmp_path.iterdir())
