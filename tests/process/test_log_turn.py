"""Several processes write on one log: each line comes whole, whoever is slow, killed or stopped."""

from __future__ import annotations

import fcntl
import os
import select
import subprocess
import sys
import termios
from array import array
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep

import pytest

from trioworkers.process import log_turn
from trioworkers.process.log_turn import begin_turns, in_turn, take_turns

LONG = 20_000
WRITE = """
import io, logging, os, sys
from trioworkers.process.log_turn import take_turns
from trioworkers.process.log_writer import LogWriter
take_turns(int(sys.argv[1]))
writer = LogWriter(os.fdopen(int(sys.argv[2]), "w"), shared=True)
letter, count, size = sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
for number in range(count):
    line = letter * (size if number % 2 else 100)
    writer._put(f"<{line}>\\n".encode())
while writer._lines or not writer._idle:
    writer.flush()
"""


@pytest.fixture
def turn() -> Iterator[int]:
    fd = begin_turns()
    assert fd is not None
    try:
        yield fd
    finally:
        take_turns(None)
        os.close(fd)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    try:
        yield reader, writer
    finally:
        os.close(reader)
        os.close(writer)


def begin(turn: int, pipe: tuple[int, int], letter: str, count: int, size: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", WRITE, str(turn), str(pipe[1]), letter, str(count), str(size)]
    return subprocess.Popen(command, pass_fds=[turn, pipe[1]])


def waiting(reader: int) -> int:
    """How many bytes lie in the pipe."""
    size = array("i", [0])
    fcntl.ioctl(reader, termios.FIONREAD, size)
    return size[0]


def until_full(pipe: tuple[int, int]) -> None:
    """Until whoever writes stands in the middle of a line: the pipe takes no more."""
    until = monotonic() + 60
    while select.select([], [pipe[1]], [], 0)[1]:
        assert monotonic() < until
        sleep(0.01)


def read(reader: int, size: int) -> bytes:
    found = b""
    while len(found) < size:
        found += os.read(reader, 3000)
    return found


def test_lines_longer_than_a_pipe_takes_at_once_do_not_mix(turn: int, pipe: tuple[int, int]):
    count = 20
    processes = [begin(turn, pipe, letter, count, LONG) for letter in "abc"]
    try:
        until_full(pipe)
        lines = read(pipe[0], 3 * count // 2 * (LONG + 3 + 103)).decode().splitlines()
    finally:
        for each in processes:
            each.kill()
            each.wait()
    assert len(lines) == 3 * count
    for line in lines:
        assert line[0] + line[-1] == "<>"
        assert len({*line[1:-1]}) == 1


def test_line_that_a_kill_has_cut_is_followed_by_a_new_one(turn: int, pipe: tuple[int, int]):
    killed = begin(turn, pipe, "a", 2, 1_000_000)
    try:
        until_full(pipe)
    finally:
        killed.kill()
        killed.wait()
    read(pipe[0], waiting(pipe[0]))
    with in_turn(10) as first:
        assert first == b"\n"
    with in_turn(10) as first:
        assert first == b""


def test_process_that_is_stopped_in_its_turn_is_passed_by(
    turn: int, pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(log_turn, "PATIENCE_S", 0.05)
    stopped = begin(turn, pipe, "a", 2, 1_000_000)
    try:
        until_full(pipe)  # it has its turn, and will have it until somebody reads
        with in_turn(10) as first:
            assert first == b""
    finally:
        stopped.kill()
        stopped.wait()


def test_number_that_is_another_file_s_now_is_left_alone(tmp_path: Path, turn: int):
    mine = tmp_path / "mine"
    mine.write_text("precious")
    with mine.open("r+b") as file:
        os.dup2(file.fileno(), turn)
        with in_turn(LONG) as first:
            assert first == b""
    assert mine.read_text() == "precious"


def test_who_shares_nothing_has_its_turn_at_once():
    take_turns(None)
    with in_turn(LONG) as first:
        assert first == b""


def test_without_a_file_lines_are_written_all_the_same(monkeypatch: pytest.MonkeyPatch):
    def full() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    assert begin_turns() is None
