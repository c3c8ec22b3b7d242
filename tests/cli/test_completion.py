"""What a shell completes comes from Redis; and never holds the shell up, or gives it anything to evaluate."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from acting import payload
from servers import Server, free_port

from trioworkers.cli import suggestions
from trioworkers.cli.commands import every_command

COMMANDS = every_command()
Offer = Callable[[str, str], list[str]]


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the test that is about it says how long somebody at a prompt waits."""
    monkeypatch.setattr(suggestions, "PATIENCE_S", 60.0)


@pytest.fixture
def full(redis_url: str, shared_server: Server) -> str:
    command = shared_server.command
    command("SADD", "queues", "track", "mail", "$(reboot)", "two words")
    command("LPUSH", "queue:track", payload(1, **{"class": "Shop::Track"}))
    command("ZADD", "dead", 1, payload(2, **{"class": "`reboot`"}), 2, "no json")
    command("SADD", "paused", "slow")
    command("SADD", "tw:paused:classes", "Paused")
    command("SADD", "processes", "rb:7:x")
    command("HSET", "rb:7:x", "info", json.dumps({"queues": ["served"]}), "busy", 1, "beat", "1.5")
    command("HSET", "rb:7:x:work", "t", json.dumps({"queue": "served", "payload": payload(3), "run_at": 1}))
    return redis_url


def offered(command: str, parameter: str, url: str, incomplete: str = "", **params: object) -> list[str]:
    """What the parser proposes for a parameter of a command."""
    (found,) = [each for each in COMMANDS[command].params if each.name == parameter]
    ctx = cast(Any, SimpleNamespace(params={"redis": url, "namespace": None, **params}))
    return [item.value for item in found.shell_complete(ctx, incomplete)]


@pytest.mark.parametrize(
    ("command", "parameter", "names"),
    [
        ("jobs", "queue", ["mail", "served", "slow", "track"]),
        ("enqueue", "queue", ["mail", "served", "slow", "track"]),
        ("enqueue", "job_class", ["A", "Shop::Track"]),
        ("pause", "queues", ["mail", "served", "slow", "track"]),
        ("resume", "queues", ["slow"]),
        ("resume", "classes", ["Paused"]),
        ("delete", "in_", ["dead", "next", "parked", "queue:mail", "queue:track", "retry", "scheduled", "waiting"]),
        ("export", "place", ["dead", "next", "parked", "queue:mail", "queue:track", "retry", "scheduled", "waiting"]),
        ("show", "jid", ["jid1", "jid2", "jid3"]),
        ("cancel", "jid", ["jid3"]),
        ("stop", "processes", ["rb:7:x"]),
        ("ps", "process", ["rb:7:x"]),
    ],
)
def test_names_in_redis_are_offered_if_a_shell_can_bear_them(full: str, command: str, parameter: str, names: list[str]):
    shown = offered(command, parameter, full)
    assert [name for name in shown if len(name) < 20] == names
    assert len(shown) - len(names) <= 1  # what is no job has a jid made from its bytes
    assert offered(command, parameter, full, names[0][:3]) == [name for name in names if name[:3] == names[0][:3]]


def test_redis_that_is_away_or_says_nothing_offers_nothing(monkeypatch: pytest.MonkeyPatch):
    assert offered("jobs", "queue", f"redis://127.0.0.1:{free_port()}/0") == []
    assert offered("jobs", "queue", "no url") == []
    assert offered("jobs", "queue", "embedded:") == []
    monkeypatch.setattr(suggestions, "PATIENCE_S", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert offered("jobs", "queue", f"redis://127.0.0.1:{silent.getsockname()[1]}/0") == []
        (left,) = [each for each in threading.enumerate() if each.name == "trioworkers-suggestions"]
        assert left.daemon
    left.join(60)


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
def test_bash_gets_them_by_the_script_that_we_install(full: str, tmp_path: Path):
    program = tmp_path / "trioworkers"
    program.write_text(
        f"#!{sys.executable}\nfrom trioworkers.cli import main, suggestions\nsuggestions.PATIENCE_S = 60.0\nmain()\n"
    )
    program.chmod(0o755)
    script = """
        eval "$(trioworkers --show-completion bash)"
        COMP_WORDS=(trioworkers jobs tr) COMP_CWORD=2
        _trioworkers_completion trioworkers
        echo "${COMPREPLY[@]}"
    """
    path = f"{tmp_path}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "REDIS_URL": full}
    done = subprocess.run(
        ["bash", "--norc", "-c", script], env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.stdout, done.stderr) == ("track\n", "")


def trioworkers(home: Path, *words: str, shell: str = "/bin/false") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HOME": str(home), "SHELL": shell}
    command = [sys.executable, "-m", "trioworkers", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_installation_adds_a_line_at_most_once_and_keeps_the_rest(tmp_path: Path, shell: str):
    home = tmp_path / "the home's"
    home.mkdir()
    told = home / f".{shell}rc"
    told.write_text("alias l=ls")
    for words in (["--install-completion"], ["--install-completion", shell]):
        done = trioworkers(home, *words, shell=f"/bin/{shell}")
        assert (done.returncode, done.stderr) == (0, "")
    first, *added = told.read_text().splitlines()
    assert first == "alias l=ls"
    assert len(added) == (shell != "fish")
    written = Path(done.stdout.rpartition("terminals: ")[2].strip())
    assert written.read_text() == trioworkers(home, "--show-completion", shell).stdout
    if shutil.which(shell) is not None:
        syntax = subprocess.run([shell, "-n", *([told] if added else [written])], check=False)
        assert syntax.returncode == 0


def test_new_bash_has_what_was_installed(tmp_path: Path):
    assert trioworkers(tmp_path, "--install-completion", "bash").returncode == 0
    words = ["bash", "--rcfile", f"{tmp_path}/.bashrc", "-i", "-c", "complete -p trioworkers"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert "_trioworkers_completion trioworkers" in done.stdout


def test_shell_that_we_do_not_know_is_named(tmp_path: Path):
    done = trioworkers(tmp_path, "--install-completion", shell="/usr/bin/nushell")
    assert done.returncode == 2
    assert "which shell? bash, zsh, fish; SHELL is 'nushell'" in done.stderr
    assert list(tmp_path.iterdir()) == []
