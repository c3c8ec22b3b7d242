"""Strangers' text, in whatever output: nothing in it ends a line, speaks to a terminal, turns the order of what is read, or breaks the writer."""

from __future__ import annotations

import json
import logging
import logging.config
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import trioworkers
from trioworkers.loggers import NAMES
from trioworkers.printable import Lines, json_line, on_lines, on_one_line

EVIL = [
    "\n",
    "\r",
    "\x1b[31m",
    "\x9b31m",
    "\x85",
    "\u2028",
    "\u202e",
    "\u2066",
    "\u200f",
    "\ufeff",
    "\U000e0041",
    "\ud800",
    "\x00",
    "\x7f",
]


@pytest.mark.parametrize("evil", EVIL)
def test_nothing_evil_is_left(evil: str):
    for shown in (on_one_line(f"a{evil}b"), json_line({"x": f"a{evil}b", f"k{evil}": [evil]})):
        assert not set(evil[:1]) & set(shown)
        shown.encode()
    assert json.loads(json_line(["plain ü 漢 👩‍👩‍👧"])) == ["plain ü 漢 👩‍👩‍👧"]


@given(st.text())
def test_any_text_is_one_line_of_valid_utf8(text: str):
    shown = on_one_line(text)
    assert len(shown.splitlines()) <= 1
    shown.encode()
    assert on_one_line(shown) == shown


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_json_means_what_it_meant(text: str):
    line = json_line(text)
    assert len(line.splitlines()) == 1
    assert json.loads(line) == text


@given(st.text())
def test_lines_stay_lines_but_none_begins_like_a_record(text: str):
    first, *more = on_lines(text).split("\n")
    assert len(more) == text.count("\n")
    assert all(line.startswith("  ") for line in more)
    first.encode()


class Unshowable:
    def __str__(self) -> str:
        raise ValueError("no")

    __repr__ = __str__


def test_json_of_what_is_no_json_is_text():
    endless: list[object] = []
    endless.append(endless)
    for value in (
        Unshowable(),
        endless,
        {1: object},
        float("nan"),
        1 << 200,
        {"x": Unshowable(), "\ud800": 1},
        b"\xff",
    ):
        line = json_line(value)
        json.loads(line)
        assert "\n" not in line


# ── our loggers ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(params=NAMES)
def logger(request: pytest.FixtureRequest):
    return logging.getLogger(request.param)


def test_what_is_put_into_our_lines_is_printable_for_any_handler(
    logger: logging.Logger, caplog: pytest.LogCaptureFixture
):
    extra = {"jid": "a\nb", "job_class": "x\x9by"}
    code = compile(
        'logger.warning("class=%s %d %s", "a\\nb", 7, Lines("x\\ny"), extra=extra)',
        logging.__file__.replace("logging", "x"),
        "exec",
    )
    exec(code, {"logger": logger, "extra": extra, "Lines": Lines})  # as from a handler: its own lines are its own
    logger.error("%s", ValueError("no\nway"))
    records = [record for record in caplog.records if record.name == logger.name]
    assert records[0].jid == "a\\x0ab"
    assert records[0].job_class == "x\\x9by"
    if logger.name != "trioworkers.job":
        assert records[0].getMessage() == "class=a\\x0ab 7 x\ny"
        assert records[1].getMessage() == "no\\x0away"


def test_handler_that_raises_ends_nothing(logger: logging.Logger, capsys: pytest.CaptureFixture[str]):
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise ValueError("I/O operation on closed file")

    handler = Broken()
    logger.addHandler(handler)
    try:
        logger.warning("said")
        logger.warning("%d", Unshowable())
    finally:
        logger.removeHandler(handler)


@pytest.mark.parametrize("how", ["dictConfig", "fileConfig"])
def test_configuration_of_others_does_not_silence_us(
    logger: logging.Logger, how: str, tmp_path, monkeypatch: pytest.MonkeyPatch
):
    root = logging.getLogger()
    before = root.handlers[:], root.level
    others = logging.getLogger("somebody.else")
    try:
        if how == "dictConfig":
            logging.config.dictConfig({"version": 1})
        else:
            (tmp_path / "conf").write_text(
                "[loggers]\nkeys=root\n[handlers]\nkeys=h\n[formatters]\nkeys=\n[logger_root]\nhandlers=h\nlevel=INFO\n"
                "[handler_h]\nclass=NullHandler\nargs=()\n"
            )
            logging.config.fileConfig(tmp_path / "conf")
        assert others.disabled
        assert not logger.disabled
    finally:
        others.disabled = False
        root.handlers[:], root.level = before


def test_we_can_be_silenced_on_purpose(logger: logging.Logger):
    logger.disabled = True
    try:
        assert not logger.isEnabledFor(logging.CRITICAL)
    finally:
        logger.disabled = False


def test_nothing_is_configured_by_the_library():
    program = (
        "import logging, trioworkers; trioworkers.App; trioworkers.Client; trioworkers.Worker; "
        f"assert not any(logging.getLogger(name).handlers for name in (None, *{NAMES!r}))"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_every_logger_of_ours_is_known():
    """Else its records are not made printable, and anybody's `dictConfig` switches it off."""
    package = Path(trioworkers.__file__).parent
    texts = [path.read_text() for path in package.rglob("*.py")]
    used = {name for text in texts for name in re.findall(r'getLogger\("(trioworkers[^"]*)"\)', text)}
    assert used == set(NAMES)
