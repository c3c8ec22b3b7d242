"""Whatever goes wrong on the way in is one readable line, without a password and without our traceback."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import trio
from servers import ROOT, Server, wait_for

from trioworkers import Refused
from trioworkers.cli.session import Session, in_session

RUN = ("run", "app.py")
ENQUEUE = ("enqueue", "default", "add", "1", "2")
APP = "from trioworkers import App\napp = App()\n@app.handler('default')\nasync def add(a: int, b: int): pass\n"


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
    command = [sys.executable, "-m", "trioworkers", *words]
    return subprocess.Popen(
        command, cwd=folder, env={**environment, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True
    )


def said(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, text = process.communicate(timeout=120)
    assert "secret" not in text
    return process.returncode, text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


@pytest.mark.parametrize("command", [RUN, ENQUEUE, ("ps",)])
def test_wrong_password_is_one_line_with_the_address(folder: Path, server: Server, command: tuple[str, ...]):
    server.command("CONFIG", "SET", "requirepass", "right")
    for url, words in (
        (server.url.replace("//", "//:secret@"), "invalid username-password"),
        (server.url, "a password is needed"),
    ):
        status, text = said(start(folder, *command, "--redis", url))
        assert (status, len(text.splitlines())) == (1, 1), text
        assert text.startswith(f"trioworkers: Redis at {server.url}")
        assert words in text


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def test_who_takes_connections_and_says_nothing_is_told_as_that(folder: Path, listener: socket.socket):
    status, text = said(start(folder, "ps", "--redis", f"redis://127.0.0.1:{listener.getsockname()[1]}"))
    assert (status, len(text.splitlines())) == (1, 1), text
    assert "it accepts connections, but doesn't answer" in text


@pytest.mark.parametrize("greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n"])
def test_who_speaks_something_else_is_told_as_that(folder: Path, listener: socket.socket, greeting: bytes):
    def greet() -> None:
        with suppress(OSError):  # the listener is closed at the end
            while True:
                with listener.accept()[0] as connection:
                    connection.recv(1)
                    connection.sendall(greeting)

    threading.Thread(target=greet, daemon=True).start()
    status, text = said(start(folder, "ps", "--redis", f"redis://127.0.0.1:{listener.getsockname()[1]}"))
    listener.shutdown(socket.SHUT_RDWR)  # wakes who waits in `accept`
    assert (status, len(text.splitlines())) == (1, 1), text
    assert "what answers there doesn't speak Redis's protocol" in text


def test_refusal_that_names_no_key_says_who_does(folder: Path, server: Server):
    server.command("SET", "dead", "no set")
    status, text = said(start(folder, "dead", "--redis", server.url))
    assert (status, len(text.splitlines())) == (1, 1), text
    assert text.endswith("; somebody has written over a key: `trioworkers doctor` names it\n")
    server.command("ACL", "SETUSER", "poor", "on", ">pw", "~*", "+ping", "+hello", "+select", "+client")
    status, text = said(start(folder, "dead", "--redis", server.url.replace("//", "//poor:pw@")))
    assert (status, len(text.splitlines())) == (1, 1), text
    assert text.endswith("; `trioworkers doctor` says what its user may not do\n")


@pytest.mark.parametrize("command", [ENQUEUE, ("ps",)])
def test_no_redis_is_one_line_with_the_address_and_where_that_came_from(folder: Path, command: tuple[str, ...]):
    status, text = said(start(folder, *command, "--redis", "redis://:secret@127.0.0.1:1/0"))
    assert (status, len(text.splitlines())) == (1, 1), text
    assert text.startswith("trioworkers: no answer from Redis at redis://127.0.0.1:1/0 (--redis): ")


@pytest.mark.parametrize(
    ("app", "words"),
    [
        ("App('redis://:secret@127.0.0.1:1')", "no answer from Redis at redis://127.0.0.1:1 (App): connection refused"),
        (
            "App(shards={'a': Shard('redis://127.0.0.1:1'), 'b': Shard('redis://127.0.0.1:2')})",
            "a Redis of the App's shards (the App's own Redis, redis://localhost:6379/0, shard 'a', redis://127.0.0.1:1, shard 'b', redis://127.0.0.1:2): ",
        ),
    ],
)
@pytest.mark.parametrize("command", [ENQUEUE, ("cron", "create", "x", "* * * * *", "default", "add", "1", "2")])
def test_no_redis_of_an_app_is_one_line_with_its_address(folder: Path, app: str, words: str, command: tuple[str, ...]):
    (folder / "app.py").write_text(f"from trioworkers import Shard\n{APP.replace('App()', app)}")
    status, text = said(start(folder, *command, "--redis", "app.py"))
    assert (status, len(text.splitlines())) == (1, 1), text
    if command[0] == "cron" and "shards" in words:  # it is for one of them only
        words = (
            "no answer from Redis at redis://localhost:6379/0 (the default address; no `trioworkers dev` runs here): "
        )
    assert text.startswith(f"trioworkers: {words}")


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("nowhere.py", "there is no file 'nowhere.py'\n"),
        ("app:nothing", "has no 'nothing'; it has app"),
        ("app:add", "is a Handler, not an App"),
    ],
)
def test_wrong_target_is_one_line(folder: Path, target: str, words: str):
    status, text = said(start(folder, "run", target))
    assert (status, len(text.splitlines())) == (1, 1), text
    assert words in text


@pytest.mark.parametrize(
    ("code", "status", "words"),
    [("0", 1, "0"), ("256", 1, "256"), ("None", 1, "None"), ("3", 3, "3"), ("'no DATABASE_URL'", 1, "no DATABASE_URL")],
)
def test_module_that_exits_is_no_success(folder: Path, code: str, status: int, words: str):
    (folder / "app.py").write_text(f"raise SystemExit({code})\n")
    found, text = said(start(folder, *RUN))
    assert found == status
    assert text.splitlines()[-2:] == [
        f"SystemExit: {words}",
        "trioworkers: your module can't be imported, see above",
    ]


def test_error_in_their_module_is_their_traceback(folder: Path):
    (folder / "app.py").write_text("def f():\n    import nothing_like_it\nf()\n")
    status, text = said(start(folder, *RUN))
    lines = text.splitlines()
    assert status == 1
    assert [line for line in lines if line.startswith("  File")] == [
        f'  File "{folder}/app.py", line 3, in <module>',
        f'  File "{folder}/app.py", line 2, in f',
    ]
    assert lines[-2:] == [
        "ModuleNotFoundError: No module named 'nothing_like_it'",
        "trioworkers: your module can't be imported, see above",
    ]


def test_ctrl_c_while_their_module_is_imported_says_nothing(folder: Path):
    (folder / "app.py").write_text("import time\nopen('here', 'w')\ntime.sleep(60)\n")
    process = start(folder, *RUN)
    wait_for((folder / "here").exists, "it is imported")
    process.send_signal(signal.SIGINT)
    assert said(process) == (130, "")


def test_ctrl_c_while_it_waits_for_redis_says_what_it_waits_for_and_ends(folder: Path):
    process = start(folder, *RUN, "--redis", "redis://:secret@127.0.0.1:1/0")
    assert process.stderr is not None
    first = process.stderr.readline()
    assert "unreachable" in first
    assert "it is tried again" in first
    assert "say where it is: --redis, REDIS_URL; `trioworkers dev` and --redis embedded:./data bring their own" in first
    process.send_signal(signal.SIGINT)
    status, text = said(process)
    assert (status, len(text.splitlines())) == (0, 1)
    assert text.endswith("INFO stopping before it has started\n")


def test_ctrl_c_while_redis_is_away_says_what_is_waited_for_and_a_second_one_does_not_wait(
    folder: Path, server: Server
):
    with start(folder, *RUN, "--redis", server.url, "--shutdown-timeout", "100") as process:
        assert process.stderr is not None
        while "started:" not in process.stderr.readline():
            pass
        server.kill()
        while "unreachable" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGINT)
        line = process.stderr.readline()
        assert (
            "stopping: no job is running; Redis is away and gets 100.0 s to come back, or until a second signal" in line
        )
        process.send_signal(signal.SIGINT)
        text = process.stderr.read()
    assert process.wait(60) == 0
    assert "stopped without Redis" in text
    assert "did not end by its deadline" not in text


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("dead", "--where", "foo=1"), "foo"),
        (("requeue", "--all", "--in", "queue:x"), "with --to"),
    ],
)
def test_wrong_usage_is_status_2(redis_url: str, words: tuple[str, ...], text: str):
    command = [sys.executable, "-m", "trioworkers", *words, "--redis", redis_url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert text in done.stderr


def test_what_several_tasks_stumble_over_is_one_line(redis_url: str):
    async def stumble() -> None:
        raise Refused("no such thing")

    async def ask(_: Session) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(stumble)

    with pytest.raises(Refused, match=r"^Redis at redis://.*: no such thing$"):
        in_session(ask, redis_url, None)
