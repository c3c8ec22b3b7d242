"""As installed nobody sees a record of a job's line: none is made, and the line is what it would have been. As soon as somebody could see one, it is."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from servers import Server

from trioworkers import log_records
from trioworkers.engine import joblog
from trioworkers.log_records import RecordMaker
from trioworkers.outcome import Acknowledge, Bury, Requeue
from trioworkers.process import log_writer
from trioworkers.process.log_formats import share_log
from trioworkers.process.log_writer import LogWriter
from trioworkers.process.logs import _formatter
from trioworkers.wire.job import Job

APP = """
import logging, os, signal
from trioworkers import App, Context
from trioworkers import log_records
from trioworkers.engine import joblog

app = App()

@app.handler("q")
async def look(ctx: Context) -> None:
    logging.getLogger("somebody").warning("makes records: %s", joblog._records.only_writer(logging.INFO) is None)
    os.kill(os.getpid(), signal.SIGTERM)
"""
JOBS = [Job("q", "C", jid="j"), Job("ü q", "evil\nclass=forged", jid='a\x1b[31m"b=\ud800', retry_count=3)]


class Installed:
    """The log of jobs with one handler of ours, and whether it was given records."""

    def __init__(self, file: Path, handler: LogWriter) -> None:
        self.handler = handler
        self.records = 0
        self._file = file
        emit = handler.emit

        def counted(record: logging.LogRecord) -> None:
            self.records += 1
            emit(record)

        handler.emit = counted  # type: ignore[method-assign]

    def alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """From now on. Pytest puts handlers of its own beside it when a test begins."""
        monkeypatch.setattr(logging.getLogger(), "handlers", [self.handler])
        joblog.logger.setLevel(logging.INFO)

    def lines(self) -> list[str]:
        """What was written since the last time."""
        self.handler.flush()
        text = self._file.read_text(errors="surrogateescape")
        with self._file.open("w"):
            pass
        return text.splitlines()


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installed]:
    file = tmp_path / "log"
    for module in (log_writer, log_records, time):
        monkeypatch.setattr(module, "time", lambda: 1758000000.9996)
    with file.open("a") as stream:
        handler = LogWriter(stream)
        handler.setFormatter(_formatter("text", io.StringIO()))
        yield Installed(file, handler)
    logging.getLogger("trioworkers.job").setLevel(logging.NOTSET)


def say_all() -> None:
    for job in JOBS:
        joblog.log_start(job)
        joblog.log_end(job, Acknowledge(), None, 0.12345678)
        joblog.log_end(job, Requeue(b""), None, 1.0)
        joblog.log_end(job, Bury(b""), joblog.TrioworkersError("why\nnot"), 2.0)
        joblog.log_skipped(job, "other\nline")
        joblog.log_expired(job)


@pytest.mark.parametrize("process", ["", "2"])
@pytest.mark.parametrize("form", ["text", "logfmt", "json"])
def test_line_is_what_its_record_would_have_made(
    form: str, process: str, installed: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed.alone(monkeypatch)
    share_log(process)
    installed.handler.setFormatter(_formatter(form, io.StringIO()))  # type: ignore[arg-type]
    try:
        say_all()
        short, without = installed.lines(), installed.records
        monkeypatch.setattr(RecordMaker, "only_writer", lambda *_: None)
        say_all()
        assert (short, without) == (installed.lines(), 0)
        assert installed.records == len(short) == 6 * len(JOBS)
    finally:
        share_log("")


class Seen(logging.Handler):
    """Somebody else's handler."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(record)


class Filter(logging.Filter):
    """Somebody's filter."""


def patched(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    before = getattr(logging.Logger, name)

    def watched(self: logging.Logger, *args: object, **options: object) -> object:
        return before(self, *args, **options)

    monkeypatch.setattr(logging.Logger, name, watched)


WATCHERS: dict[str, Callable[[Installed, pytest.MonkeyPatch], object]] = {
    "a handler of the root": lambda at, monkeypatch: monkeypatch.setattr(
        logging.getLogger(), "handlers", [at.handler, Seen()]
    ),
    "a handler of ours": lambda _, monkeypatch: monkeypatch.setattr(
        logging.getLogger("trioworkers"), "handlers", [Seen()]
    ),
    "a handler of the jobs'": lambda _, monkeypatch: monkeypatch.setattr(joblog.logger, "handlers", [Seen()]),
    "a filter of the jobs'": lambda _, monkeypatch: monkeypatch.setattr(joblog.logger, "filters", [Filter()]),
    "a filter of the handler": lambda at, monkeypatch: monkeypatch.setattr(at.handler, "filters", [Filter()]),
    "a formatter": lambda at, _: at.handler.setFormatter(logging.Formatter("%(threadName)s %(message)s")),
    "no formatter": lambda at, _: at.handler.setFormatter(None),
    "a terminal": lambda at, monkeypatch: (
        monkeypatch.setenv("FORCE_COLOR", "1"),
        at.handler.setFormatter(_formatter("text", io.StringIO())),
    ),
    "callHandlers": lambda _, monkeypatch: patched(monkeypatch, "callHandlers"),
    "handle": lambda _, monkeypatch: patched(monkeypatch, "handle"),
    "makeRecord": lambda _, monkeypatch: patched(monkeypatch, "makeRecord"),
    "a record factory": lambda _, monkeypatch: monkeypatch.setattr(
        logging, "_logRecordFactory", type("Record", (logging.LogRecord,), {})
    ),
}


@pytest.mark.parametrize("watch", WATCHERS.values(), ids=WATCHERS)
def test_record_is_made_for_who_could_see_it(
    watch: Callable[[Installed, pytest.MonkeyPatch], object],
    installed: Installed,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installed.alone(monkeypatch)
    joblog.log_start(JOBS[0])
    assert installed.records == 0
    watch(installed, monkeypatch)
    joblog.log_start(JOBS[0])
    assert installed.records == 1
    assert "start" in installed.lines()[-1]


def test_handler_that_does_nothing_sees_nothing(installed: Installed, monkeypatch: pytest.MonkeyPatch) -> None:
    installed.alone(monkeypatch)
    monkeypatch.setattr(logging.getLogger("trioworkers"), "handlers", [logging.NullHandler()])
    joblog.log_start(JOBS[0])
    assert (installed.records, len(installed.lines())) == (0, 1)


def test_as_installed_no_record_is_made(tmp_path: Path, redis_url: str, shared_server: Server) -> None:
    """`trioworkers run` itself: what it sets up is what the shorter way is for."""
    target = tmp_path / "installed_app.py"
    target.write_text(APP)
    shared_server.command("LPUSH", "queue:q", '{"class": "look", "args": [], "jid": "j", "queue": "q"}')
    command = [sys.executable, "-m", "trioworkers", "run", f"{target}:app", "--redis", redis_url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    assert "done class=look jid=j" in done.stderr
    assert "makes records: False" in done.stderr


def test_handler_that_wants_less_gets_less(installed: Installed, monkeypatch: pytest.MonkeyPatch) -> None:
    installed.alone(monkeypatch)
    installed.handler.setLevel(logging.WARNING)
    say_all()
    assert [line.split()[2] for line in installed.lines()] == ["ERROR", "ERROR"]


def test_nobody_hears_what_does_not_propagate(installed: Installed, monkeypatch: pytest.MonkeyPatch) -> None:
    installed.alone(monkeypatch)
    monkeypatch.setattr(logging.getLogger("trioworkers"), "propagate", False)
    monkeypatch.setattr(logging, "lastResort", None)
    say_all()
    assert installed.lines() == []
