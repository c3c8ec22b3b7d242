"""The tests' own servers: each is the one that its test started."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from servers import GIVEN_PORTS, LOWEST_PORT, ROOT, Server, free_port, wait_for


def test_programs_of_the_tests_hear_ctrl_c_also_when_a_shell_runs_the_tests_in_the_background():
    asks = "import conftest, subprocess, sys; subprocess.run([sys.executable, '-c', 'import signal; print(signal.getsignal(2))'])"
    command = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh", sys.executable, "-c", asks]
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True)
    assert "default_int_handler" in done.stdout


def test_nothing_is_no_empty_list(server: Server):
    """A stand-in that took one for the other gave up a slot each time its queue was empty for a second."""
    assert server.command("BRPOPLPUSH", "empty", "list", 0.01) is None
    assert server.command("LRANGE", "empty", 0, -1) == []


def test_port_is_none_that_an_outgoing_connection_may_be_given():
    first_given = int(GIVEN_PORTS.read_text().split()[0]) if GIVEN_PORTS.exists() else 32_768
    assert all(free_port() < first_given for _ in range(20))


def test_no_port_is_given_twice_in_a_test_run(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "4")
    given = []
    for process in range(4):
        monkeypatch.setenv("PYTEST_XDIST_WORKER", f"gw{process}")
        given.append({free_port() for _ in range(100)})
    assert [len(ports) for ports in given] == [100] * 4
    assert [{(port - LOWEST_PORT) % 4 for port in ports} for ports in given] == [{0}, {1}, {2}, {3}]


def test_server_of_others_at_its_port_is_not_taken_for_ours(tmp_path: Path):
    for name in ("theirs", "ours"):
        (tmp_path / name).mkdir()
    theirs, ours = Server(tmp_path / "theirs").start(), Server(tmp_path / "ours")
    ours.port = theirs.port
    starting = threading.Thread(target=ours.start)
    try:
        starting.start()
        log = tmp_path / "ours" / "log"
        wait_for(lambda: log.exists() and "in use" in log.read_text(), "it finds the port taken")
        assert starting.is_alive()
        theirs.kill()
        starting.join()
        assert ours.command("CONFIG", "GET", "dir") == ["dir", str(tmp_path / "ours")]
    finally:
        theirs.kill()
        ours.kill()


def test_server_that_was_killed_within_a_transaction_keeps_what_comes_after_it(server: Server):
    """Redis 7.0 cuts half of a command off its log, but not the transaction that it was in: the next restart took that and what came after it for one."""
    with server.session() as command:
        command("MULTI")
        command("SET", "first", "1")
        command("SET", "second", "x" * 1000)
        command("EXEC")
    server.kill()
    (log,) = (server.folder / "appendonlydir").glob("*.incr.aof")
    whole = log.read_bytes()
    log.write_bytes(whole[: whole.index(b"x" * 1000) + 500])
    for _ in range(2):
        server.start()
        server.command("INCR", "later")
        server.kill()
    server.start()
    assert server.command("MGET", "first", "second", "later") == [None, None, "2"]
