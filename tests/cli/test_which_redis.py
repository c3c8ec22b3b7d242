"""Which Redis a command means."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from trioworkers import ConfigurationError
from trioworkers.cli.which_redis import which_redis
from trioworkers.dev_note import FOLDER, NOTE, keeping_note


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_anything_it_is_the_default_address():
    assert which_redis(None).url == "redis://localhost:6379/0"


def test_option_wins_over_environment_which_wins_over_a_running_dev(folder: Path, monkeypatch: pytest.MonkeyPatch):
    with keeping_note(folder) as note:
        note.write("unix:///run/dev", "ns")
        assert (which_redis(None).url, which_redis(None).namespace) == ("unix:///run/dev", "ns")
        assert which_redis(None, "mine").namespace == "mine"
        monkeypatch.setenv("REDIS_URL", "redis://env")
        assert (which_redis(None).url, which_redis(None).namespace) == ("redis://env", "")
        assert which_redis("redis://option").url == "redis://option"


def test_dev_is_found_from_a_directory_below(folder: Path, monkeypatch: pytest.MonkeyPatch):
    below = folder / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    with keeping_note(folder) as note:
        assert which_redis(None).source == "the default address"  # it has no Redis yet
        note.write("unix:///run/dev")
        assert which_redis(None).source == f"`trioworkers dev` (pid {os.getpid()})"
    assert which_redis(None).source == "the default address"


def test_note_of_a_dev_that_was_killed_is_ignored(folder: Path):
    (folder / FOLDER).mkdir()
    (folder / FOLDER / NOTE).write_text(json.dumps({"pid": 1, "url": "unix:///gone"}))
    assert which_redis(None).source == "the default address"


def test_note_is_for_our_eyes_only_and_no_matter_for_git(folder: Path):
    with keeping_note(folder):
        assert (folder / FOLDER / NOTE).stat().st_mode & 0o777 == 0o600
        assert (folder / FOLDER / ".gitignore").read_text() == "*\n"


def test_second_dev_in_a_directory_is_refused(folder: Path):
    with keeping_note(folder), pytest.raises(ConfigurationError, match=f"pid {os.getpid()}"), keeping_note(folder):
        pass
