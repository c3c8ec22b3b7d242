"""On a terminal of 80 columns nothing that we write is broken in the middle of a word, and help says what may be repeated."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import click
import pytest
from servers import free_port

from trioworkers.cli.commands import every_command
from trioworkers.cli.tables import in_lines

COMMANDS = every_command()


@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_and_shows_what_may_be_given_many_times(name: str):
    command = COMMANDS[name]
    context = click.Context(command, info_name=name, terminal_width=80, max_content_width=80)
    text = command.get_help(context)
    assert [line for line in text.splitlines() if len(line) > 80] == []
    for argument in command.params:
        if argument.param_type_name == "argument" and argument.nargs == -1 and not argument.required:
            assert "]..." in text.splitlines()[0]


def test_doctor_breaks_its_lines_between_words():
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "trioworkers", "doctor", "--redis", f"redis://127.0.0.1:{free_port()}/0"],
        stdin=theirs,
        stdout=theirs,
        env={**os.environ, "COLUMNS": "80", "NO_COLOR": "1"},
    )
    os.close(theirs)
    text = b""
    try:
        while part := os.read(ours, 65536):
            text += part
    except OSError:  # the last one has closed it
        pass
    os.close(ours)
    assert process.wait(60) == 1
    lines = text.decode().replace("\r", "").splitlines()
    assert [line for line in lines if len(line) > 80] == []
    joined = " ".join(line.strip() for line in lines)
    assert "nothing listens there: start it, or say where it is: --redis, REDIS_URL; `trioworkers dev`" in joined


def test_what_is_read_by_programs_stays_on_one_line():
    assert in_lines("word " * 100, 24) == ["word " * 100]
