"""What can't be, whatever Redis holds, ends with status 2 before anything is looked at; what only isn't there, with status 1."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest
from servers import free_port

from trioworkers.cli import main
from trioworkers.process import logs

APP = "from trioworkers import App\napp = App()\n@app.handler('default')\nasync def add(a: int, b: int): pass\n"


@pytest.fixture
def status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs a command line where there is no Redis; the status, and the last line on stderr."""
    (tmp_path / "my_app.py").write_text(APP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "my_app", raising=False)  # another test's
    monkeypatch.setattr(logs, "configure_logging", lambda *_: None)  # it would be for all tests in this process
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{free_port()}/0")

    def run(line: str, **environment: str) -> tuple[object, str]:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["trioworkers", *shlex.split(line)])
        with pytest.raises(SystemExit) as raised:
            main()
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return raised.value.code, captured.err.rstrip().rpartition("\n")[2]

    return run


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("run my_app.py --lease 0.1", "--lease is a number of seconds from 0.5 to 1,000,000,000"),
        ("run my_app.py --shutdown-timeout nan", "--shutdown-timeout is a number"),
        ("run my_app.py --process-id 'a b'", "--process-id has at most"),
        ("run my_app.py --namespace 'a b'", "--namespace has at most"),
        ("run my_app.py --redis foo", "--redis: 'foo' is no Redis URL"),
        ("run my_app.py --redis redis://:secret@", "--redis: 'redis://' is no Redis URL"),
        ("run my_app.py --unknown what", "--unknown"),
        ("run :app", "names no module"),
        *((f"run {target}", "names no module: use a file") for target in (".", "./", "..", "./app", ".app:app")),
        ("dev my_app.py --shutdown-timeout nan", "--shutdown-timeout is a number"),
        ("dev my_app.py --redis http://x", "--redis: 'http://x' is no Redis URL"),
        ("demo --redis foo", "--redis: 'foo'"),
        ("new 1bad", "is no name for a Python module"),
        ("new json", "would hide"),
        ("enqueue 'a\x07b' A", "a queue's name"),
        ("enqueue q ''", "a job's class"),
        ("enqueue q A --in nan", "--in"),
        ("enqueue q A --in -1", "--in"),
        ("enqueue q A --with x", "NAME=ARG"),
        ("enqueue q A --redis foo", "--redis: 'foo'"),
        ("ps --redis unix://", "--redis: "),
        ("ps --namespace 'a b'", "--namespace has at most"),
        ("jobs q --limit -1", "--limit"),
        ("jobs q --limit many", "--limit"),
        ("dead --where 'age>soon'", "age>soon"),
        ("stats --watch --every 0", "--every"),
        ("stats --watch --every nan", "--every"),
        ("doctor --grace nan", "--grace"),
        ("retry", "which jobs?"),
        ("requeue --all --to 'a\x07b'", "a queue's name"),
        ("export everything", "none of retry"),
        ("pause", "what?"),
        ("pause 'a\x07b'", "a queue's name"),
        ("doctor --grace -1", "--grace"),
        ("doctor :app", "names no module"),
    ],
)
def test_what_can_not_be_is_status_2(status, line: str, words: str):
    code, told = status(line)
    assert (code, words in told) == (2, True), told


@pytest.mark.parametrize(
    ("line", "variable", "value"),
    [
        ("run my_app.py", "REDIS_URL", "redis://"),
        ("run my_app.py", "TRIOWORKERS_LEASE", "long"),
        ("run my_app.py", "TRIOWORKERS_LOG_LEVEL", "loud"),
        ("ps", "REDIS_URL", "foo"),
        ("ps", "TRIOWORKERS_NAMESPACE", "a b"),
    ],
)
def test_so_it_is_where_the_environment_says_it(status, line: str, variable: str, value: str):
    code, told = status(line, **{variable: value})
    assert (code, value in told) == (2, True), told


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("run nowhere.py", "no file"),
        ("run nowhere:app", "no module"),
        ("run my_app:nothing", "has no 'nothing'"),
        ("dev my_app.py --watch nowhere", "--watch"),
        ("import nowhere.jsonl", "No such file"),
        ("doctor --manifest nowhere.yaml", "No such file"),
        ("ps", "no answer from Redis"),
        ("enqueue q A", "no answer from Redis"),
    ],
)
def test_what_only_is_not_there_is_status_1(status, line: str, words: str):
    code, told = status(line)
    assert (code, words in told) == (1, True), told
