"""The log's own thread: nobody waits for it, what is too much is dropped and counted, nothing that is logged can raise."""

from __future__ import annotations

import io
import logging
import logging.handlers
import os
import queue
import threading
from collections.abc import Iterator
from typing import NoReturn

import pytest
from servers import wait_for

from trioworkers.loggers import _Ours
from trioworkers.process import log_writer
from trioworkers.process.log_writer import LogWriter

LINE = "x" * 1000


@pytest.fixture
def pipe() -> Iterator[tuple[int, LogWriter]]:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream:
        yield reader, LogWriter(stream)
    os.close(reader)


def record(text: str, *args: object) -> logging.LogRecord:
    return logging.LogRecord("x", logging.INFO, "here.py", 7, text, args, None)


def read_all(reader: int, until: bytes) -> bytes:
    found = b""
    while until not in found:
        found += os.read(reader, 1 << 16)
    return found


def test_lines_come_in_order(pipe: tuple[int, LogWriter]):
    reader, writer = pipe
    for number in range(1000):
        writer.emit(record("line %d", number))
    writer.flush()
    assert read_all(reader, b"line 999\n").decode().split("\n") == [*(f"line {number}" for number in range(1000)), ""]


def test_destructor_may_log_wherever_python_looks_for_garbage(pipe: tuple[int, LogWriter]):
    reader, writer = pipe

    def log_in_the_middle_of_it() -> None:
        with writer._lock:
            writer.emit(record("from a destructor"))
        writer.emit(record("after it"))

    thread = threading.Thread(target=log_in_the_middle_of_it, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    assert read_all(reader, b"after it\n") == b"from a destructor\nafter it\n"


def test_what_nobody_reads_is_dropped_and_counted(pipe: tuple[int, LogWriter]):
    reader, writer = pipe
    count = 3 * log_writer.ROOM_BYTES // len(LINE)
    for number in range(count):
        writer.emit(record("%d %s", number, LINE))
    writer.flush()  # gives up
    next_number = dropped = 0
    with os.fdopen(os.dup(reader)) as lines:
        while next_number < count:
            line = lines.readline()
            number = int(line.split()[0])
            if "were dropped" in line:  # in the place of as many: it may be twice, who logs may be quick
                next_number += number
                dropped += number
            else:
                assert number == next_number
                next_number += 1
    assert next_number == count
    assert 0 < dropped < count


def test_closed_stream_does_not_end_the_log():
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream:
        handler = LogWriter(stream)
    handler.close()
    handler.emit(record("still here"))
    assert read_all(reader, b"\n") == b"still here\n"
    os.close(reader)


def test_pipe_that_others_made_non_blocking_is_written_whole(pipe: tuple[int, LogWriter]):
    reader, writer = pipe
    assert writer._fd is not None
    os.set_blocking(writer._fd, False)
    for _ in range(300):
        writer.emit(record(LINE))
    writer.emit(record("end"))
    assert len(read_all(reader, b"end\n").splitlines()) == 301


def test_what_cannot_be_formatted_is_a_line_all_the_same():
    stream = io.StringIO()
    handler = LogWriter(stream)
    handler.emit(record("%d", "no number"))
    handler.emit(record("a \ud800 surrogate"))
    handler.flush()
    wait_for(lambda: stream.getvalue().count("\n") == 2, "both are written")
    assert "here.py:7 that can't be formatted" in stream.getvalue()
    assert "a \\ud800 surrogate" in stream.getvalue()


def test_lines_wait_for_a_thread_that_can_be_started(pipe: tuple[int, LogWriter], monkeypatch: pytest.MonkeyPatch):
    reader, writer = pipe

    def start(_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", start)
        for number in range(3):
            writer.emit(record("line %d", number))
        writer.flush()  # waits for nobody
    writer.emit(record("end"))
    assert read_all(reader, b"end\n") == b"line 0\nline 1\nline 2\nend\n"


@pytest.mark.parametrize("kind", [ValueError, SystemExit])
def test_what_a_program_adds_to_logging_ends_nobody_who_logs(
    kind: type[BaseException], monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: object, **__: object) -> NoReturn:
        raise kind("theirs")

    logger, stream = logging.getLogger("trioworkers"), io.StringIO()
    ours, theirs = LogWriter(stream), logging.Handler()
    monkeypatch.setattr(theirs, "handle", fail)
    monkeypatch.setattr(logger, "handlers", [ours, theirs])
    monkeypatch.setattr(_Ours, "apart", False)
    factory = logging.getLogRecordFactory()
    try:
        logger.warning("one")
        logging.setLogRecordFactory(fail)
        logger.warning("two %s", "three", extra={"jid": "abc"})
    finally:
        logging.setLogRecordFactory(factory)
    monkeypatch.setattr(ours, "format", fail)
    logger.warning("four")
    wait_for(lambda: "four" in stream.getvalue(), "all are written")
    lines = stream.getvalue().splitlines()
    assert {"one", "two three"} <= set(lines)
    assert sum(f"raised {kind.__name__}: theirs (" in line and "test_log_writer.py" in line for line in lines) == 1


def _refuse(_: logging.LogRecord) -> bool:
    raise LookupError("no request is under way")


@pytest.mark.parametrize("where", ["a handler before ours", "a filter of our logger", "a filter of our handler"])
def test_who_raises_keeps_no_line_from_those_behind(where: str, monkeypatch: pytest.MonkeyPatch):
    logger, stream = logging.getLogger("trioworkers"), io.StringIO()
    ours, theirs = LogWriter(stream), logging.Handler()
    monkeypatch.setattr(_Ours, "apart", False)
    monkeypatch.setattr(theirs, "handle", _refuse)
    monkeypatch.setattr(logger, "handlers", [theirs, ours] if where == "a handler before ours" else [ours])
    if where == "a filter of our logger":
        monkeypatch.setattr(logger, "filters", [_refuse])
    if where == "a filter of our handler":
        monkeypatch.setattr(ours, "filters", [_refuse])
    for number in range(3):
        logger.warning("line %d", number)
    wait_for(lambda: "line 2" in stream.getvalue(), "all are written")
    lines = stream.getvalue().splitlines()
    assert [line for line in lines if line.startswith("line")] == ["line 0", "line 1", "line 2"]
    assert sum("raised LookupError" in line for line in lines) == (where != "a filter of our handler")


def test_record_that_a_factory_cannot_make_keeps_its_fields(monkeypatch: pytest.MonkeyPatch):
    logger, found = logging.getLogger("trioworkers"), logging.handlers.QueueHandler(queue.SimpleQueue())
    monkeypatch.setattr(logger, "handlers", [found])
    factory = logging.getLogRecordFactory()
    logging.setLogRecordFactory(lambda *_, **__: _refuse(record("")))  # type: ignore[arg-type, return-value]
    try:
        logger.warning("said", extra={"jid": "abc"})
    finally:
        logging.setLogRecordFactory(factory)
    assert found.queue.get_nowait().jid == "abc"


@pytest.mark.filterwarnings(
    "ignore:.*use of fork:DeprecationWarning"
)  # from 3.12 on, as there are threads; that is what it is about
def test_forked_child_says_what_it_has_to_say(pipe: tuple[int, LogWriter]):
    reader, writer = pipe
    writer.emit(record("parent"))
    writer.flush()
    child = os.fork()
    if child == 0:
        writer.emit(record("child"))
        os._exit(0)
    os.waitpid(child, 0)
    assert read_all(reader, b"child\n") == b"parent\nchild\n"
