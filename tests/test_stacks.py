"""Call stacks are shown whatever file their code says that it came from: nobody is waited for, and no line is too long."""

from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

from trioworkers.stacks import MAX_CALLS, MAX_LINE, calls_of, outer_frames
from trioworkers.tracebacks import format_error, last_place

SOURCE = "def fail():\n    raise ValueError('no')\n"


def failure(filename: str, source: str = SOURCE, **names: Any) -> BaseException:
    exec(compile(source, filename, "exec"), names)
    try:
        names["fail"]()
    except ValueError as error:
        return error
    raise AssertionError


def pipe(folder: Path) -> str:
    os.mkfifo(folder / "pipe.py")
    return str(folder / "pipe.py")


def large(folder: Path) -> str:
    (folder / "large.py").write_text(SOURCE + "#" * (5 << 20))
    return str(folder / "large.py")


@pytest.mark.parametrize("make", [pipe, large, lambda _: "/dev/zero", lambda _: "/dev/tty", str])
def test_only_files_are_read(tmp_path: Path, make: Callable[[Path], str]):
    name = make(tmp_path)
    error = failure(name)
    shown = format_error(error)
    assert shown.endswith("ValueError: no")
    assert "raise" not in shown
    assert f"{name}:2" in last_place(error)


def test_lines_are_cut(tmp_path: Path):
    file = tmp_path / "wide.py"
    file.write_text(f"def fail():\n    raise ValueError('no') #{'é' * 1_000_000}\n")
    shown = format_error(failure(str(file), file.read_text()))
    assert "    raise ValueError('no') #é" in shown
    assert len(shown) < MAX_LINE + 1000


def test_nobodys_loader_is_asked():
    def get_source(_: object, __: str) -> NoReturn:
        raise SystemExit

    loader = type("Loader", (), {"get_source": get_source})()
    for names in (
        {"__loader__": loader, "__name__": "nowhere"},
        {"__spec__": SimpleNamespace(loader=loader, name="nowhere"), "__loader__": loader, "__name__": "nowhere"},
    ):
        assert format_error(failure("nowhere.py", **names)).endswith("ValueError: no")


def test_names_in_a_dict_of_their_own_kind():
    class Names(dict[str, Any]):
        def get(self, *_: object) -> NoReturn:
            raise SystemExit

        __contains__ = get

    names = Names()
    exec(SOURCE, names)
    with pytest.raises(ValueError, match="no") as raised:
        names["fail"]()
    assert format_error(raised.value).endswith("ValueError: no")


def test_archives_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.writestr("in_an_archive.py", SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path / "archive.zip"))
    with pytest.raises(ValueError, match="no") as raised:
        import_module("in_an_archive").fail()
    assert "    raise ValueError('no')\n" in format_error(raised.value)


def test_chain_and_groups_have_their_lines_and_marks(tmp_path: Path):
    def wrap() -> None:
        try:
            int("x" + str(1 // 0))
        except ZeroDivisionError as error:
            raise ExceptionGroup("both", [ValueError("a")]) from error

    with pytest.raises(ExceptionGroup) as raised:
        wrap()
    group = raised.value
    outer = RuntimeError("outer")
    outer.__cause__ = group
    shown = format_error(outer)
    assert 'int("x" + str(1 // 0))' in shown
    assert "~~^^~~" in shown
    assert "raise ExceptionGroup" in shown
    assert shown.index("1 // 0") < shown.index("raise ExceptionGroup") < shown.index("RuntimeError: outer")


def test_deep_stacks_are_cut():
    def deeper(left: int) -> list[Any]:
        return deeper(left - 1) if left else outer_frames(sys._getframe())

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(3 * MAX_CALLS)
    try:
        frames = deeper(2 * MAX_CALLS)
    finally:
        sys.setrecursionlimit(limit)
    assert len(frames) == MAX_CALLS
    assert len(calls_of(frames)) == MAX_CALLS
