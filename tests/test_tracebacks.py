"""Tracebacks begin in the user's code and show root causes first."""

from __future__ import annotations

import traceback

import pytest
import trio

from trioworkers import App, Bury
from trioworkers.engine.joblog import log_end
from trioworkers.errors import TrioworkersError
from trioworkers.outcome import Bury as Buried
from trioworkers.tracebacks import MAX_CAUSES, format_error, is_theirs
from trioworkers.wire.job import Job


async def fail(text: str) -> None:
    with trio.CancelScope(shield=True):  # so that all of a nursery fail
        await trio.lowlevel.checkpoint()
    raise ValueError(text)


async def fail_in_a_nursery(*texts: str) -> None:
    async with trio.open_nursery() as nursery:
        for text in texts:
            nursery.start_soon(fail, text)


async def caught(function: object, *args: str) -> BaseException:
    try:
        await function(*args)  # type: ignore[operator]
    except BaseException as error:  # noqa: BLE001 - handed on
        return error
    raise AssertionError("nothing was raised")


async def test_root_causes_of_a_nursery_come_first_and_without_trios_frames():
    error = await caught(fail_in_a_nursery, "first", "second")
    assert "trio/_core" in "".join(traceback.format_exception(error))  # there would be something to cut
    shown = format_error(error)
    assert "trio/_core" not in shown
    assert "ExceptionGroup" not in shown
    assert shown.splitlines()[0] == "Traceback (most recent call last):"
    assert sorted(line for line in shown.splitlines() if line.startswith("ValueError")) == [
        "ValueError: first",
        "ValueError: second",
    ]
    assert shown.splitlines()[-1].endswith("in fail_in_a_nursery)")


async def test_nursery_of_many_failures_shows_a_few():
    error = await caught(fail_in_a_nursery, *(str(number) for number in range(20)))
    assert format_error(error).count("Traceback") == MAX_CAUSES
    assert "… and 15 more" in format_error(error)


async def test_cause_that_is_all_library_is_left_out():
    async def wrapped() -> None:
        try:
            raise ExceptionGroup("inner", [OSError("socket")])
        except ExceptionGroup as group:
            group.__traceback__ = None
            raise RuntimeError("outer") from group

    assert "inner" not in format_error(await caught(wrapped))


def test_error_without_any_frame_of_theirs_has_no_traceback():
    assert format_error(ValueError("never raised")) == ""


def test_what_is_ours_and_what_is_theirs():
    assert is_theirs("/home/me/app.py")
    assert not is_theirs(trio.__file__)
    assert not is_theirs(App.__init__.__code__.co_filename)


@pytest.mark.parametrize(
    ("error", "wanted"), [(ValueError("a"), True), (Bury("b"), False), (TrioworkersError(), False)]
)
def test_errors_that_explain_themselves_are_logged_without_traceback(
    error: Exception, wanted: bool, caplog: pytest.LogCaptureFixture
):
    log_end(Job("q", "A", [1]), Buried(b""), error, 0.1)
    assert bool(caplog.records[0].exc_info) is wanted
