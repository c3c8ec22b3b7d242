"""The log as a fault (F52): nobody reads it, others configure it, jobs write into it what they like."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest
from harness import Jobs
from servers import ROOT, Server, Worker, wait_for

Work = Callable[..., Worker]

LINES = 12_000
"""More than a pipe and the log's own room hold."""


LEASE_S = 5
"""A machine that is busy with other things may have the process wait for a second or two, which is no fault of the log's."""


@attrs.define
class Unread:
    """A program whose standard error is a pipe that nobody reads until `read`."""

    process: subprocess.Popen[bytes]
    reader: int

    def read(self) -> str:
        """All that it has written and writes until it ends."""
        found: list[bytes] = []

        def read() -> None:
            while part := os.read(self.reader, 1 << 20):
                found.append(part)

        thread = threading.Thread(target=read)
        thread.start()
        thread.join(60)
        assert not thread.is_alive()
        return b"".join(found).decode()


@pytest.fixture
def unread(jobs: Jobs, tmp_path: Path) -> Iterator[Callable[..., Unread]]:
    programs: list[Unread] = []

    def start(*command: str, **environment: str) -> Unread:
        reader, writer = os.pipe()
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        environment = {**os.environ, "PYTHONPATH": path, "RUNS": str(jobs.runs), "CONCURRENCY": "50", **environment}
        process = subprocess.Popen([sys.executable, *command], stderr=writer, cwd=tmp_path, env=environment)
        os.close(writer)
        programs.append(Unread(process, reader))
        return programs[-1]

    yield start
    for program in programs:
        program.process.kill()
        program.process.wait()
        os.close(program.reader)


def command(server: Server, *more: str) -> list[str]:
    options = ["--redis", server.url, "--process-id", "w1", "--lease", str(LEASE_S), "--shutdown-timeout", "1"]
    return ["-m", "trioworkers", "run", "process_app:app", *options, *more]


def test_log_that_nobody_reads_costs_lines_and_nothing_else(
    unread: Callable[..., Unread], work: Work, jobs: Jobs, server: Server
):
    program = unread(*command(server))
    jobs.push(LINES // 2, "Sleep", 0)
    wait_for(lambda: len(jobs.counted("end")) == LINES // 2, "all are done although nobody reads")
    jobs.push(1, "Block", LEASE_S + 1.5)
    jobs.push(5, "Sleep", LEASE_S + 2)
    wait_for(lambda: len(jobs.counted("start")) == LINES // 2 + 6, "all run")
    other = work("other").wait_started()
    wait_for(lambda: len(jobs.counted("end")) == LINES // 2 + 6 and jobs.in_progress() == 0, "all are done")
    assert set(jobs.counted("start").values()) == {1}, "its lease was kept, with the loop blocked as well"
    assert "died" not in other.text
    other.kill()
    jobs.push(1, "Sleep", 600)
    wait_for(lambda: len(jobs.counted("start")) == LINES // 2 + 7, "it runs")
    program.process.send_signal(signal.SIGTERM)
    assert program.process.wait(60) == 0
    assert len(jobs.queued()) == 1


def test_lines_that_were_dropped_are_counted(unread: Callable[..., Unread], jobs: Jobs, server: Server):
    program = unread(*command(server))
    jobs.push(LINES // 2, "Sleep", 0)
    wait_for(lambda: len(jobs.counted("end")) == LINES // 2 and jobs.in_progress() == 0, "all are done")
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(program.read()))
    thread.start()
    jobs.push(1, "Sleep", 0)
    wait_for(lambda: len(jobs.counted("end")) == LINES // 2 + 1, "it is done")
    program.process.send_signal(signal.SIGTERM)
    assert program.process.wait(60) == 0
    thread.join(60)
    dropped = sum(int(count) for count in re.findall(r"(\d+) log lines were dropped here", found[0]))
    written = len(re.findall(r" (?:start|done) class=Sleep ", found[0]))
    others = len(re.findall(r"started:|stopping:|stopped:", found[0]))
    assert dropped > 0
    assert written + dropped + others in range(LINES + 2, LINES + 6)
    assert "stopped: worker" in found[0]


THEIR_OWN = """
import logging, os, sys, time
logging.basicConfig(level=logging.INFO, stream=sys.stderr)
import trio
from process_app import app, write
from trioworkers import Context

@app.handler("q", "Shout")
async def shout(ctx: Context) -> None:
    write(f"start {ctx.job.jid}")
    while True:
        logging.info("x" * 1000)

app.configure(redis_url=sys.argv[1], process_id="w1", lease=float(sys.argv[3]), shutdown_timeout=1)
if sys.argv[2] == "serve":
    trio.run(app.serve)
else:
    app.run()
"""


@pytest.mark.parametrize("how", ["run", "serve"])
def test_logging_of_their_own_that_blocks_costs_neither_lease_nor_end(
    unread: Callable[..., Unread], work: Work, jobs: Jobs, server: Server, tmp_path: Path, how: str
):
    (tmp_path / "program.py").write_text(THEIR_OWN)
    program = unread("program.py", server.url, how, str(LEASE_S))
    jobs.push(1, "Shout")
    wait_for(lambda: jobs.counted("start"), "it runs")
    other = work("other").wait_started()
    began = time.monotonic()  # from here on nobody renews it but the watchdog

    def kept_for_longer_than_itself() -> bool:
        assert server.command("EXISTS", "tw:lease:w1"), "its lease was kept"
        return time.monotonic() > began + LEASE_S + 1.5

    wait_for(kept_for_longer_than_itself, "a lease passes, and the other one looks for workers that are gone")
    assert jobs.in_progress() == 1
    assert "died" not in other.text
    other.kill()
    if how == "run":
        program.process.send_signal(signal.SIGTERM)
        assert program.process.wait(60) == 0
        assert len(jobs.queued()) == 1


CONFIGURES = """
import logging.config, os
from trioworkers import App, Context

CONFIGS = {
    "bare": {"version": 1},
    "no handlers": {"version": 1, "root": {"level": "WARNING", "handlers": []}},
    "their own": {"version": 1, "handlers": {"h": {"class": "logging.StreamHandler"}}, "root": {"level": "WARNING", "handlers": ["h"]}},
}
app, done = App(os.environ.get("URL")), []

@app.handler("q", "Say")
async def say(ctx: Context) -> None:
    if os.environ["WHEN"] == "in a job" and not done:
        done.append(True)
        logging.config.dictConfig(CONFIGS[os.environ["CONFIG"]])

if os.environ["WHEN"] == "at import":
    logging.config.dictConfig(CONFIGS[os.environ["CONFIG"]])

if __name__ == "__main__":
    app.run()
"""


@pytest.mark.parametrize("config", ["bare", "no handlers", "their own"])
@pytest.mark.parametrize("when", ["at import", "in a job"])
def test_configuration_of_theirs_does_not_silence_the_command_line(
    run_worker: Callable[..., Worker], jobs: Jobs, server: Server, tmp_path: Path, config: str, when: str
):
    (tmp_path / "configures.py").write_text(CONFIGURES)
    worker = run_worker(server.url, "configures.py", CONFIG=config, WHEN=when)
    wait_for(lambda: "started: worker" in worker.text, "it says that it has started")

    def goes_on() -> bool:
        jobs.push(1, "Say")
        return worker.text.count("done class=Say") >= 5

    wait_for(goes_on, "jobs are in the log, at the latest a second after it was taken away")
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0
    assert "stopped: worker" in worker.text


def test_run_logs_as_the_command_line_does_where_nobody_has_configured_logging(
    unread: Callable[..., Unread], jobs: Jobs, server: Server, tmp_path: Path
):
    (tmp_path / "configures.py").write_text(CONFIGURES)
    program = unread("configures.py", URL=server.url, WHEN="never", CONFIG="bare")
    jobs.push(1, "Say")
    wait_for(lambda: server.command("GET", "stat:processed") == "1", "it is done")
    program.process.send_signal(signal.SIGTERM)
    assert program.process.wait(60) == 0
    text = program.read()
    for words in ("INFO started: worker", "INFO start class=Say", "INFO done class=Say", "INFO stopped: worker"):
        assert words in text


@pytest.mark.parametrize("closed", ["2>&-", "1>&- 2>&-", "<&- 1>&- 2>&-"])
@pytest.mark.parametrize("how", ["-m trioworkers run configures.py", "configures.py"])
def test_worker_without_standard_streams_runs(jobs: Jobs, server: Server, tmp_path: Path, closed: str, how: str):
    (tmp_path / "configures.py").write_text(CONFIGURES)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "REDIS_URL": server.url, "WHEN": "never", "CONFIG": "bare"}
    with subprocess.Popen(
        f"exec {sys.executable} {how} {closed}", shell=True, cwd=tmp_path, env=environment
    ) as program:
        try:
            jobs.push(1, "Say")
            wait_for(lambda: server.command("GET", "stat:processed") == "1", "it is done")
            assert {Path(f"/proc/{program.pid}/fd/{fd}").readlink() for fd in (0, 1, 2)[-closed.count("-") :]} == {
                Path("/dev/null")
            }
            program.send_signal(signal.SIGTERM)
            assert program.wait(60) == 0
        finally:
            program.kill()


EVIL = "x\n2030-01-01T00:00:00.000Z pid=1 INFO start class=forged\x9b31m\u202e\ud800"

SPEAKS = """
import json
import threading
import warnings
import trio
from trioworkers import App, Context
app = App()
EVIL = json.loads(EVIL_JSON)

@app.handler("q", EVIL.encode("utf-8", "replace").decode())
async def speak(ctx: Context) -> None:
    ctx.log.info("said %s", EVIL)
    ctx.log.warning(EVIL)
    await trio.sleep(600)

@app.handler("q", "Fail")
async def fail(ctx: Context) -> None:
    raise ValueError(EVIL)

def in_a_thread():
    raise ValueError(EVIL)

class Destroyed:
    def __del__(self):
        raise ValueError(EVIL)

@app.handler("q", "HavePythonSpeak")
async def have_python_speak(ctx: Context) -> None:
    warnings.warn(EVIL)
    thread = threading.Thread(target=in_a_thread, name=EVIL)
    thread.start()
    thread.join()
    Destroyed()
"""


@pytest.mark.parametrize("log_format", ["text", "logfmt", "json"])
def test_nobody_forges_a_line(
    run_worker: Callable[..., Worker], jobs: Jobs, server: Server, tmp_path: Path, log_format: str
):
    (tmp_path / "speaks.py").write_text(SPEAKS.replace("EVIL_JSON", repr(json.dumps(EVIL))))
    worker = run_worker(server.url, "speaks.py", "--log-format", log_format, "--shutdown-timeout", "1").wait_started()
    whole = EVIL.encode("utf-8", "replace").decode()
    for job_class in (whole, f"unknown {whole}", "Fail", "HavePythonSpeak"):
        jobs.push(1, job_class)
    jobs.server.command("LPUSH", "queue:q", json.dumps({"class": whole, "args": [], "jid": whole, "queue": "q"}))
    wait_for(lambda: server.command("ZCARD", "retry") == 2 and jobs.in_progress() == 2, "two fail, two run")
    worker.signal(signal.SIGTTIN)
    wait_for(lambda: "running jobs" in worker.text, "it tells")
    said = ("UserWarning", "an exception ended", "Exception ignored in")
    wait_for(lambda: all(words in worker.text for words in said), "Python has spoken")
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0
    text = worker.text
    assert not [line for line in text.splitlines() if line.startswith("2030")]
    assert not {*"\x9b\u202e"} & set(text)
    assert "Logging error" not in text
    lines = text.splitlines()
    if log_format == "json":
        assert all(json.loads(line) for line in lines)
    if log_format != "text":
        assert all(re.match(r'\{"time"|time=', line) for line in lines)
