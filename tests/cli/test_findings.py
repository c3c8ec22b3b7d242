"""`trioworkers doctor` as scripts and people see it; and what it looks at outside Redis."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from servers import ROOT, Server

from trioworkers import App, ConfigurationError
from trioworkers.cli import checkup
from trioworkers.cli.checkup import check_app, check_files, check_grace
from trioworkers.cli.manifests import read_manifest


def doctor(*words: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return subprocess.run(
        [sys.executable, "-m", "trioworkers", "doctor", *words],
        env={**os.environ, "PYTHONPATH": path, "RUNS": "/dev/null"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_healthy_redis_and_app_are_status_0(redis_url: str):
    done = doctor("process_app:app", "--redis", redis_url, "--grace", "40", "--strict")
    assert done.returncode == 0, done.stdout
    assert "ok       permissions" in done.stdout
    assert "queue q:" in done.stdout


def test_scripts_get_json_and_status_1(redis_url: str):
    done = doctor("--redis", redis_url, "--grace", "5", "--json")
    assert done.returncode == 1
    findings = {finding["check"]: finding for finding in json.loads(done.stdout)}
    assert findings["grace period"]["level"] == "problem"
    assert "--shutdown-timeout to 3" in findings["grace period"]["advice"]


def test_warnings_count_only_if_strict():
    done = doctor("--redis", "embedded:")
    assert (done.returncode, "warning  persistence" in done.stdout) == (0, True)
    assert doctor("--redis", "embedded:", "--strict").returncode == 1


def test_no_redis_is_a_finding_without_password_or_traceback():
    done = doctor("--redis", "redis://user:secret@127.0.0.1:1/0")
    assert done.returncode == 1
    assert done.stdout.startswith("problem  redis          no use at redis://127.0.0.1:1/0 (--redis)")
    assert "secret" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("login", [":wrong@", ""])
def test_wrong_password_is_one_problem(server: Server, login: str):
    server.command("CONFIG", "SET", "requirepass", "right")
    done = doctor("--redis", server.url.replace("//", f"//{login}"), "--json")
    findings = [
        finding for finding in json.loads(done.stdout) if finding["check"] not in ("open files", "grace period")
    ]
    assert done.returncode == 1
    assert [(finding["check"], finding["level"]) for finding in findings] == [("redis", "problem")]
    assert "wrong user or password" in findings[0]["text"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("spec:\n  terminationGracePeriodSeconds: 60\n  containers: []", 60),
        ("spec:\n  containers:\n  - image: a", 30),
        ("[Service]\nTimeoutStopSec=1min 30s", 90),
        ("[Service]\nTimeoutStopSec=infinity", float("inf")),
        ("[Service]\nExecStart=a", 90),
        ("services:\n  a:\n    stop_grace_period: 1m30s", 90),
        ("services:\n  a: {}", 10),
        ("terminationGracePeriodSeconds: 60\n---\nterminationGracePeriodSeconds: 20", 20),
    ],
)
def test_grace_period_is_read_from_whatever_starts_the_worker(tmp_path: Path, text: str, seconds: float):
    (tmp_path / "file").write_text(text)
    assert read_manifest(tmp_path / "file").grace_s[0] == seconds


@pytest.mark.parametrize("text", ["hello", "[Service]\nTimeoutStopSec=soon"])
def test_file_that_says_nothing_is_an_error(tmp_path: Path, text: str):
    (tmp_path / "file").write_text(text)
    with pytest.raises(ConfigurationError):
        read_manifest(tmp_path / "file").grace_s  # noqa: B018 - it is read then


def test_grace_period_has_to_cover_the_deadline_and_the_last_seconds():
    assert check_grace(27, "x", 25).level == "ok"
    assert check_grace(26, "x", 25).level == "problem"
    assert check_grace(None, "", 25).level == "note"


def test_open_files_are_counted_with_the_apps_connections(monkeypatch: pytest.MonkeyPatch):
    app = App()
    app.queue("q")
    monkeypatch.setattr(checkup.resource, "getrlimit", lambda _: (1024, 4096))
    assert check_files(None).level == "ok"
    finding = check_files(app)
    assert (finding.level, "ulimit -n" in finding.advice) == ("warning", True)
    monkeypatch.setattr(checkup.resource, "getrlimit", lambda _: (1024, 1024))
    assert "LimitNOFILE" in check_files(app).advice


def test_app_without_handlers_is_a_problem():
    (finding,) = check_app(App())
    assert (finding.level, "no handler" in finding.text) == ("problem", True)
