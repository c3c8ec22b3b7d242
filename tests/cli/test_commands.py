"""All commands: each has examples that its own parser takes, a summary, and a place in the help."""

from __future__ import annotations

import resource
import shlex
import subprocess
import sys

import click
import pytest
from servers import Server

from trioworkers.cli.commands import MODULES, app, every_command, function_of
from trioworkers.cli.commands.examples import examples_of
from trioworkers.wire.decode import decode

COMMANDS = every_command()


def trioworkers(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "trioworkers", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("name", MODULES)
def test_every_command_has_examples_that_its_parser_takes(name: str):
    lines = [line for line, _ in examples_of(function_of(name))]
    assert lines
    for line in lines:
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        parts: list[list[str]] = [[]]
        for word in lexer:  # one command line, or several joined by pipes
            if word in ("|", ">", "<", ">>", "&&"):
                parts.append([])
            else:
                parts[-1].append(word)
        for program, called, *words in (part for part in parts if part[:1] == ["trioworkers"]):
            assert program == "trioworkers"
            command = COMMANDS[called]
            assert command.make_context(called, words, parent=click.Context(app)).params
        assert any(part[:1] == ["trioworkers"] for part in parts)


def test_help_lists_every_command_with_its_summary():
    text = trioworkers("--help").stdout
    for name, command in COMMANDS.items():
        assert f"  {name} " in text
        assert command.get_short_help_str(40).removesuffix("...") in text
    assert "Exit status" in text


def test_help_is_there_at_once():
    of_click = min(cpu_of("-c", "import click") for _ in range(3))
    assert (
        min(cpu_of("-m", "trioworkers", "--help") for _ in range(3)) < 3 * of_click
    )  # Trio alone is three times as much


def cpu_of(*words: str) -> float:
    """Seconds of CPU of a Python, whatever the clock on the wall says."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *words], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize("words", [("enqueu",), ("run", "--shutdown-timout", "3")])
def test_slip_of_the_pen_gets_a_suggestion_and_status_2(words: tuple[str, ...]):
    done = trioworkers(*words)
    assert done.returncode == 2
    assert "'enqueue'" in done.stderr or "--shutdown-timeout" in done.stderr


def test_version_is_told():
    assert trioworkers("--version").stdout.startswith("trioworkers 0.")


def test_enqueue_sends_an_active_job_with_keyword_arguments(redis_url: str, shared_server: Server):
    done = trioworkers(
        "enqueue", "q", "WelcomeJob", "7", "--with", "plan=pro", "--with", "days=3", "--redis", redis_url
    )
    assert done.returncode == 0, done.stderr
    job = decode(str(shared_server.command("LINDEX", "queue:q", 0)).encode(), "q")
    assert (job.job_class, job.args, job.kwargs) == ("WelcomeJob", (7,), {"plan": "pro", "days": 3})
    assert job.jid == done.stdout.strip()
    assert trioworkers("enqueue", "q", "A", "--with", "plan", "--redis", redis_url).returncode == 2
