"""The pages: all code on them is run by a test, or says why not; their commands are those that there are, and do what they can here."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from pages import PAGES, Block, blocks, path_of, programs
from servers import ROOT, Server

from trioworkers.cli.commands import app, every_command
from trioworkers.errors import TrioworkersError, WrongUsage

RUN_BY = {
    "README.md": "engine/test_serve.py",
    "handlers.md": "engine/test_serve.py",
    "django.md": "test_django.py",
    "frameworks.md": "test_frameworks.py",
    "hooks.md": "test_hooks_page.py",
    "interop.md": "interop/test_interop_page.py",
    "testing.md": "testing/test_page.py",
    "tutorial.md": "test_tutorial.py",
}
"""Who runs the programs of a page, and what else it has in other languages; all other Python is run by test_pages_python.py."""
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NOT_HERE = ("opentelemetry-exporter-otlp",)
"""Packages that readers are told to install and our tests have no use for."""
COMMANDS = every_command()
WAITS = ("demo", "dev", "run", "web", "stats --watch", "result --wait")
"""They run until they are stopped, or wait for what does not come here: tests of their own do that."""
CODE = [block for page in PAGES for block in blocks(page) if not block.language.startswith("{")]
"""But for what is an instruction to Sphinx."""
SHELL = [block for block in CODE if block.language == "sh" and block.why_not_run is None]


def commands(text: str) -> Iterator[list[str]]:
    """The commands of a shell block, without its comments; those of a pipe one by one."""
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|<>;&")
        lexer.whitespace_split = True
        part: list[str] = []
        for word in lexer:
            if set(word) <= set("|<>;&"):
                if part:
                    yield part
                part = [word] if word in ("<", ">") else []
            else:
                part.append(word)
        if part:
            yield part


# ── nothing is left out ────────────────────────────────────────────────────────────────────────────────────────────────


def why_nobody_runs(block: Block) -> str | None:
    """What is wrong with a block of code, as far as its page says."""
    if block.why_not_run is not None:
        return None if len(block.why_not_run) > 10 else "why not?"
    if block.language == "text" and block.page == "tutorial.md":
        return None
    if block.language not in ("python", "sh", "ruby"):
        return "say which language it is; or <!-- not run: why --> above it"
    if (block.name or block.language == "ruby") and block.page not in RUN_BY:
        return "no test runs the programs of this page: RUN_BY"
    return None


def test_every_block_is_run_by_a_test_or_says_why_not():
    assert {str(block): fault for block in CODE if (fault := why_nobody_runs(block))} == {}


@pytest.mark.parametrize(("page", "test"), RUN_BY.items())
def test_those_who_run_a_page_know_it(page: str, test: str):
    assert page in (ROOT / "tests" / test).read_text()


# ── commands ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def extras_and_packages(words: list[str]) -> Iterator[str]:
    """What is wrong with what `pip install` is told."""
    for word in words:
        name, _, rest = word.partition("[")
        known = set(PYPROJECT["optional-dependencies"])
        if name == "trioworkers":
            yield from (f"no extra {extra}" for extra in rest.rstrip("]").split(",") if extra and extra not in known)
            continue
        try:
            version(name)
        except PackageNotFoundError:
            if name not in NOT_HERE:
                yield f"we never tried {name}"


def fault_of(words: list[str], page: str) -> str | None:
    """What is wrong with a command."""
    program, *rest = words
    if program == "trioworkers":
        parse(rest)
        return None
    if program == "pip":
        return ", ".join(extras_and_packages(rest[1:])) or None
    if program == "make":
        target = f"\n{rest[0]}:"
        return None if target in (ROOT / "Makefile").read_text() else f"no target {rest[0]}"
    if program in ("gunicorn", "uvicorn"):
        return None if f"{rest[-1].partition(':')[0]}.py" in programs(page) else f"no program {rest[-1]}"
    if program == "python":
        known = {*programs(page), "manage.py", "-m"}
        return None if rest[0] in known else f"no program {rest[0]}"
    return (
        None
        if program
        in (
            ".",
            "curl",
            "echo",
            "jq",
            "gzip",
            "zcat",
            ">",
            "<",
            "cd",
            "django-admin",
            "docker",
            "mkdir",
            "pytest",
            "python3",
        )
        else f"what is {program}?"
    )


def parse(words: list[str]) -> None:
    """As the command line does, without doing it. Raises click's errors."""
    name, *rest = words
    command = COMMANDS[name]
    with command.make_context(name, rest, parent=click.Context(app)) as context:
        assert context.params


def test_commands_of_the_pages_are_there():
    said = [(str(block), words, fault_of(words, block.page)) for block in SHELL for words in commands(block.text)]
    assert len(said) > 100
    assert [each for each in said if each[2]] == []


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_the_text_of_a_page_are_there(page: str):
    """`trioworkers ps` in a sentence: the command exists, and so do its options; what it is told may be a word for anything."""
    text = re.sub(r"```.*?```", "", path_of(page).read_text(), flags=re.DOTALL)
    for span in re.findall(r"`(?:trioworkers|manage\.py trioworkers) ([a-z][^`]*)`", text):
        name, *rest = span.split()
        assert name in COMMANDS, span
        known = {opt for parameter in COMMANDS[name].params for opt in parameter.opts}
        if "manage.py trioworkers" not in text:
            assert {word.partition("=")[0] for word in rest if word.startswith("--") and len(word) > 2} <= known, span


# ── typed as printed ───────────────────────────────────────────────────────────────────────────────────────────────────

JID, BATCH = "0b5f2d6c1f9b4a3e8d7c6b5a", "1f0c9c6e3a5b"


def fill(server: Server) -> None:
    """Some of everything that the pages speak of."""
    job = {"class": "TrackUserJob", "args": [{"id": 7}], "queue": "track", "jid": JID, "retry": True}
    failed = {**job, "jid": "dead1", "error_class": "TimeoutError", "error_message": "timeout", "retry_count": 4}
    with server.session() as command:
        command("FLUSHALL")
        command("SADD", "queues", "track", "low")
        command("LPUSH", "queue:track", json.dumps(job), json.dumps({**job, "jid": "2", "class": "Broken"}))
        command("LPUSH", "queue:low", json.dumps({**job, "jid": "3", "queue": "low"}))
        command("ZADD", "dead", 1_700_000_000, json.dumps(failed))
        command("ZADD", "retry", 4_000_000_000, json.dumps({**failed, "jid": "retry1"}))
        command("ZADD", "schedule", 4_000_000_000, json.dumps({**job, "jid": "later1", "class": "Newsletter"}))


@pytest.mark.parametrize("page", [page for page in PAGES if any(block.page == page for block in SHELL)])
def test_commands_of_a_page_are_typed_as_printed(
    page: str, shared_server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """All in this process, against one server: none is wrong usage, none stumbles over its own feet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDIS_URL", shared_server.url)
    (tmp_path / "app.py").write_text("from trioworkers import App\n\napp = App()\n")
    (tmp_path / "deploy.yaml").write_text("terminationGracePeriodSeconds: 60\n")
    (tmp_path / "dead.jsonl").write_text("")
    said = {}
    for block in blocks(page):
        if block.language != "sh" or block.why_not_run is not None:
            continue
        fill(shared_server)
        for words in commands(block.text):
            line = shlex.join(words[1:])
            if words[0] == "trioworkers" and not line.startswith(WAITS):
                said[line] = typed(words[1:])
    assert {line: fault for line, fault in said.items() if fault} == {}


def typed(words: list[str]) -> str | None:
    """What went wrong, if it is not one of the things that may go wrong here: no such job, nobody to say yes, …"""
    done = CliRunner().invoke(app, words, input="")
    if isinstance(done.exception, WrongUsage) or done.exit_code == 2:
        return f"usage: {done.exception!r} {done.output}"
    if done.exception is not None and not isinstance(done.exception, SystemExit | TrioworkersError):
        return f"{done.exception!r}"
    return None


def test_links_of_the_front_page_lead_somewhere():
    """Those between the other pages are followed when the site is built."""
    links = re.findall(r"\]\((?!https?://)([^)#]+)", path_of("README.md").read_text())
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
