"""What the log looks like: a line for each start and end of a job, fields for machines, colours where they are wanted."""

from __future__ import annotations

import io
import json
import logging
import re
import subprocess
import sys

import pytest

from trioworkers import App, Context, Job, testing
from trioworkers.errors import ConfigurationError
from trioworkers.process.logs import Format, _formatter, wants_colours
from trioworkers.redis_url import shown_url
from trioworkers.settings import Settings

SECRET = "s3cret-argument"
app = App()


@app.handler("q")
async def good(ctx: Context, word: str) -> None:
    ctx.log.info("half-way")


@app.handler("q")
async def bad(word: str) -> None:
    raise ValueError("no\nway\x1b[31m")


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> object:
    async def run(log_format: Format, level: int = logging.INFO, stream: object = None) -> list[str]:
        caplog.set_level(level, "trioworkers")
        async with testing.run(app) as test:
            await test.enqueue(good.job(SECRET), bad.job(SECRET), Job("q", "evil\nclass=forged", [], jid="a\x1b[31mb"))
            await test.drain()
        formatter = _formatter(log_format, stream or io.StringIO())  # type: ignore[arg-type]
        jobs = [record for record in caplog.records if record.name == "trioworkers.job"]
        return [formatter.format(record) for record in jobs]

    return run


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


async def test_each_job_has_a_start_and_an_end(lines: object, autojump_clock: object):
    text = await lines("text")  # type: ignore[operator]
    (start,) = [line for line in text if " start class=good " in line]
    (done,) = [line for line in text if " done class=good " in line]
    (fail,) = [line for line in text if " fail class=bad " in line]
    assert re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z pid=\d+ INFO start class=good jid=\w{24} queue=q attempt=1$", start)
    assert re.search(r" elapsed=\d+\.\d{3}$", done)
    assert re.search(r"error=ValueError: no; way.* next=retry in \d+ s\nTraceback", fail)
    assert any("half-way jid=" in line for line in text)
    assert SECRET not in "\n".join(text)


@pytest.mark.parametrize("log_format", ["text", "logfmt", "json"])
async def test_no_job_can_forge_a_line_or_speak_to_the_terminal(
    log_format: Format, lines: object, autojump_clock: object
):
    for line in await lines(log_format):  # type: ignore[operator]
        assert "\x1b" not in line
        assert not any(part.startswith("class=forged") for part in line.splitlines())


async def test_machines_get_fields(lines: object, autojump_clock: object):
    entries = [json.loads(line) for line in await lines("json")]  # type: ignore[operator]
    (done,) = [entry for entry in entries if entry["message"] == "done"]
    assert (done["class"], done["queue"], done["attempt"], done["level"]) == ("good", "q", 1, "info")
    assert done["elapsed"] >= 0
    (fail,) = [entry for entry in entries if entry["message"] == "fail" and entry["class"] == "bad"]
    assert fail["error"].startswith("ValueError: no; way")
    assert fail["next"].startswith("retry in ")
    assert "in bad" in fail["traceback"]


async def test_logfmt_is_one_line_each(lines: object, autojump_clock: object):
    text = await lines("logfmt")  # type: ignore[operator]
    assert all("\n" not in line for line in text)
    assert any(" message=fail " in line and 'error="ValueError: no; way' in line for line in text)


async def test_level_warning_silences_what_goes_well(lines: object, autojump_clock: object):
    text = await lines("text", logging.WARNING)  # type: ignore[operator]
    assert len(text) == 2
    assert all(" fail " in line for line in text)


async def test_terminal_gets_colours(lines: object, autojump_clock: object, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    text = "\n".join(await lines("text", logging.INFO, Terminal()))  # type: ignore[operator]
    assert "\x1b[32mdone\x1b[0m" in text
    monkeypatch.setenv("NO_COLOR", "1")
    plain = _formatter("text", Terminal()).format(logging.makeLogRecord({"msg": "x", "levelname": "INFO"}))
    assert re.fullmatch(r"[\d:.]+ INFO    x", plain)


@pytest.mark.parametrize(
    ("environment", "terminal", "wanted"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"TERM": "dumb"}, True, False),
    ],
)
def test_who_wants_colours(environment: dict[str, str], terminal: bool, wanted: bool):
    assert wants_colours(Terminal() if terminal else io.StringIO(), environment) is wanted


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:pass-word@host:6379/0",
        "rediss://:pass-word@host/0",
        "redis://:slash/pass-word@host/0",
        "redis://:at@pass-word@host/0",
        "redis://host/0?username=a&password=pass-word&x=1",
        "http://user:pass-word@host",
        "user:pass-word@host",
    ],
)
def test_no_password_is_ever_shown(url: str):
    if "//" in url:
        assert "pass-word" not in shown_url(url)
        assert "host" in shown_url(url)
    if not url.startswith("redis"):
        with pytest.raises(ConfigurationError) as caught:
            Settings(redis_url=url)
        assert "pass-word" not in str(caught.value)


def test_who_hears_nothing_of_us_is_told_once():
    program = (
        "import logging; logging.getLogger('trioworkers').propagate = False\n"
        "from trioworkers.process.logs import ensure_logging\n"
        "ensure_logging(); logging.getLogger('trioworkers').warning('unheard'); logging.shutdown()"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert "no line of trioworkers is heard: its logger doesn't propagate and has no handler\n" in said.stderr


def test_our_lines_are_heard_again_as_soon_as_a_thread_can_be_started():
    program = (
        "import logging, threading\n"
        "from trioworkers.process.logs import ensure_logging_soon\n"
        "start = threading.Thread.start\n"
        'def none_left(_): raise RuntimeError("can\'t start new thread")\n'
        "threading.Thread.start = none_left; ensure_logging_soon()\n"
        "threading.Thread.start = start; ensure_logging_soon()\n"
        "for each in threading.enumerate():\n"
        "    if each.name == 'trioworkers-log-again': each.join()\n"
        "logging.getLogger('trioworkers').warning('heard'); logging.shutdown()"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert said.returncode == 0, said.stderr
    assert "heard\n" in said.stderr
