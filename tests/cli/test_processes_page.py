"""The dashboard of several processes: of which Redis it is, and the directory in which they tell what they count."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trio

from trioworkers.chosen_redis import ChosenRedis
from trioworkers.cli import page_child
from trioworkers.cli.processes_page import Page, Web
from trioworkers.web.serving import Serving


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


SHARDED = """
from trioworkers import App, Shard

app = App(shards={"a": Shard("redis://one:6379/1", namespace="{a}"), "b": Shard("redis://two:6379/2", namespace="{b}")})
app.queue("track", shards=["a", "b"])
"""
PLAIN = """
from trioworkers import App

app = App("redis://one:6379/3", namespace="{c}")
"""


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (SHARDED, {"a": ("redis://one:6379/1", "{a}"), "b": ("redis://two:6379/2", "{b}")}),
        (PLAIN, {"": ("redis://one:6379/3", "{c}")}),
    ],
)
def test_it_is_of_the_redis_that_the_page_of_one_process_is_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, found: dict[str, tuple[str, str]]
):
    target = tmp_path / f"app_of_{tmp_path.name}.py"
    target.write_text(text)
    shown: list[Mapping[str, ChosenRedis]] = []

    def close(_until_stopped: Any, serve: Any) -> None:
        _, listener = serve.args
        listener.close()

    monkeypatch.setattr(Serving, "application", lambda _, redis, _metrics: shown.append(redis))
    monkeypatch.setattr(trio, "run", close)
    with socket.socket() as listener:
        page_child._serve(
            page_child.PageOrder(
                *(str(target), None, {}, "127.0.0.1:0", None, None),
                listener=os.dup(listener.fileno()),
                metrics=None,
                is_first=True,
                log_format="text",
                log_level="info",
            )
        )
    assert [{name: (each.url, each.namespace) for name, each in redises.items()} for redises in shown] == [found]
