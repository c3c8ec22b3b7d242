"""The files in deploy/: `doctor` reads their grace period, which is enough, and their own tools take them where these are installed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from servers import ROOT

from trioworkers.cli.checkup import check_grace, grace_in
from trioworkers.process.place import PATIENCE_S
from trioworkers.settings import settings

FOLDER = ROOT / "deploy"
MANIFESTS = ("compose.yaml", "trioworkers.service", "kubernetes.yaml")


@pytest.mark.parametrize("name", MANIFESTS)
def test_grace_period_is_enough(name: str):
    timeout_s = settings({}, {}).shutdown_timeout
    seconds, source = grace_in(FOLDER / name)
    assert check_grace(seconds, source, timeout_s).level == "ok"
    before_s = 60 if "preStop" in (FOLDER / name).read_text() else 0
    assert seconds >= before_s + timeout_s + PATIENCE_S + 2


def test_every_option_in_them_is_one():
    told = subprocess.run(
        [sys.executable, "-m", "trioworkers", "run", "--help"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    known = set(re.findall(r"--[a-z-]+", told.stdout))
    for path in (FOLDER / "Dockerfile", *(FOLDER / name for name in MANIFESTS)):
        lines = [line for line in path.read_text().splitlines() if re.match(r"\s*(CMD \[\"--|args:|ExecStart=)", line)]
        used = {option for line in lines for option in re.findall(r"--[a-z-]+", line)}
        assert used <= known, (path, used - known)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_takes_the_unit(tmp_path: Path):
    unit = tmp_path / "trioworkers.service"
    text = (FOLDER / "trioworkers.service").read_text()
    unit.write_text(text.replace("/srv/app/.venv/bin/trioworkers", "/bin/true").replace("/srv/app", "/tmp"))
    told = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert "trioworkers.service" not in told.stderr, told.stderr
