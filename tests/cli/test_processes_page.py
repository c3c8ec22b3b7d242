"""The directory in which several processes tell what they count: sockets fit into it, and workers don't depend on it."""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path

import pytest

from trioworkers.cli.processes_page import Page, Web


def page() -> Page:
    return Page(Web("127.0.0.1:0", None, None), "app.py", None, {}, ("text", "info"))


def test_sockets_fit_however_long_the_directory_for_temporary_files_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with page() as found, socket.socket(socket.AF_UNIX) as listener:
        assert found.metrics is not None
        listener.bind(f"{found.metrics}/100b-4194304.sock")
        assert Path(found.metrics).stat().st_mode & 0o777 == 0o700
    assert not Path(found.metrics).exists()
    assert not list(long.iterdir())


def test_where_nothing_can_be_written_workers_run_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with page() as found:
        assert found.metrics is None
    assert "no metrics of the workers" in caplog.text
