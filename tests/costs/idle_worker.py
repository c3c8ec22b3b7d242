"""What a worker costs that has nothing to do, and a command that looks."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from counted_process import PATIENCE_S, environment
from redis_monitor import monitored
from servers import Server, blocked_fetches, wait_for

from trioworkers.broker.presence import BEAT
from trioworkers.broker.promote import DUE

IDLE_S = 10.0
OF_ITS_CHORES = (BEAT, DUE)
"""How often they run is coarse within so short a time. What they execute is not."""


def of_an_idle_worker(server: Server) -> dict[str, float]:
    """Its modules, its memory, and its commands a second."""
    command = [sys.executable, "-X", "importtime", "-m", "trioworkers", "run", "costs_app:app", "--lease", "30"]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment(server))
        try:
            wait_for(lambda: blocked_fetches(server) == 1, "it waits for jobs", PATIENCE_S)
            time.sleep(5)  # it looks around at first
            _wait_between_chores(server)
            with monitored(server, OF_ITS_CHORES) as commands:
                time.sleep(IDLE_S)
            status = Path(f"/proc/{process.pid}/status")
            memory_kb = int(re.search(r"RssAnon:\s+(\d+)", status.read_text())[1]) if status.exists() else None  # type: ignore[index]
        finally:
            process.kill()
            process.wait()
        log.seek(0)
        figures = {"modules": float(len(_imported(log.read())))}
    for what, count in commands.items():
        if "," in what:
            figures[what] = float(count)
        else:
            figures[f"{what} a second"] = count / IDLE_S
    return figures | ({"memory of its own, MB": memory_kb / 1000} if memory_kb else {})


def _wait_between_chores(server: Server) -> None:
    """They come all at once: where a window began or ended just then, one round more would be counted, or less."""

    def looks() -> list[str]:
        return re.findall(r"cmdstat_evalsha:calls=(\d+)", str(server.command("INFO", "commandstats")))

    before = looks()
    wait_for(lambda: looks() != before, "it looks for due jobs", PATIENCE_S)
    time.sleep(1)


def of_a_command(server: Server) -> dict[str, float]:
    """The modules that it imports."""
    command = [sys.executable, "-X", "importtime", "-m", "trioworkers", "queues"]
    done = subprocess.run(command, env=environment(server), capture_output=True, text=True, check=True)
    return {"modules": float(len(_imported(done.stderr)))}


def _imported(importtime: str) -> set[str]:
    return set(re.findall(r"^import time: .*\| +(\S+)$", importtime, re.MULTILINE))
