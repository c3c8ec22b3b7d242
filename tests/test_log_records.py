"""Records that are made in a shorter way than `logging`'s are what `logging` would have made."""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from trioworkers.log_records import PrintableRecord, RecordMaker
from trioworkers.process.log_formats import TextFormatter

FIELDS = {"event": "start", "jid": "j"}
WHERE = (__file__, 7, "here")


class Loggers(logging.Logger):
    """Somebody's own class, which has a say in each record."""

    def makeRecord(self, *args: Any, **options: Any) -> logging.LogRecord:  # noqa: N802 - logging's name
        record = super().makeRecord(*args, **options)
        record.release = "1.2"
        return record


@pytest.fixture
def factory() -> Iterator[None]:
    known, count = logging.getLogRecordFactory(), iter(range(10))

    def numbered(*args: Any, **options: Any) -> logging.LogRecord:
        record = known(*args, **options)
        record.number = next(count)
        return record

    logging.setLogRecordFactory(numbered)
    yield
    logging.setLogRecordFactory(known)


def make(maker: RecordMaker, level: int = logging.INFO) -> logging.LogRecord:
    return maker.make(level, "%s %d", ("word", 1), FIELDS, None)


def test_record_has_all_that_loggings_own_have():
    logger = logging.getLogger("trioworkers.test")
    maker = RecordMaker(logger, WHERE)
    for level in (logging.INFO, logging.ERROR, logging.INFO):
        made = make(maker, level)
        theirs = logger.makeRecord(logger.name, level, WHERE[0], 7, "%s %d", ("word", 1), None, "here", FIELDS)
        ours, wanted = vars(made), vars(theirs)
        assert {name: type(value) for name, value in ours.items()} == {
            name: type(value) for name, value in wanted.items()
        }
        clocks = {"created", "msecs", "relativeCreated"}
        assert {name: ours[name] for name in ours.keys() - clocks} == {
            name: wanted[name] for name in wanted.keys() - clocks
        }
        assert 0 <= theirs.created - made.created < 60
        assert abs((theirs.relativeCreated - made.relativeCreated) / 1000 - (theirs.created - made.created)) < 0.01
        assert made.msecs == pytest.approx(made.created % 1 * 1000, abs=1.0)
        assert made.getMessage() == "word 1"


def test_each_record_has_its_own_time_and_thread():
    maker = RecordMaker(logging.getLogger("trioworkers.test"), WHERE)
    found = [make(maker)]
    time.sleep(0.002)
    thread = threading.Thread(target=lambda: found.append(make(maker)), name="another")
    thread.start()
    thread.join()
    assert found[0].created < found[1].created
    assert (found[0].threadName, found[1].threadName) == (threading.current_thread().name, "another")
    assert found[1].thread == thread.ident


def test_record_factory_of_the_program_makes_each(factory: None):
    maker = RecordMaker(logging.getLogger("trioworkers.test"), WHERE)
    records = [make(maker), make(maker)]
    assert records[0].number < records[1].number  # type: ignore[attr-defined]
    assert not isinstance(records[0], PrintableRecord)


def test_class_of_loggers_of_the_program_makes_each():
    record = make(RecordMaker(Loggers("trioworkers.test"), WHERE))
    assert (record.release, record.jid) == ("1.2", "j")  # type: ignore[attr-defined]


def test_record_that_went_through_a_queue_is_one_line_still():
    """A QueueHandler formats a record before it sends it, the traceback with it."""
    sent: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    error = ValueError("no\n2026-01-01T00:00:00.000Z pid=1 INFO 100 % forged")
    maker = RecordMaker(logging.getLogger("trioworkers.test"), WHERE)
    logging.handlers.QueueHandler(sent).handle(  # type: ignore[arg-type]
        maker.make(logging.INFO, "%s", ("fail",), FIELDS, (ValueError, error, None))
    )
    (line,) = TextFormatter().format(sent.get()).splitlines()
    assert r"\x0a2026-01-01T00:00:00.000Z pid=1 INFO 100 % forged" in line


def test_forked_child_says_that_it_is_another_process():
    maker = RecordMaker(logging.getLogger("trioworkers.test"), WHERE)
    make(maker)
    read, write = os.pipe()
    child = os.fork()
    if not child:  # nothing of the tests' own must run in it
        os.write(write, json.dumps([make(maker).process, os.getpid()]).encode())
        os._exit(0)
    os.waitpid(child, 0)
    said, its = json.loads(os.read(read, 100))
    assert said == its == child
    os.close(read)
    os.close(write)
