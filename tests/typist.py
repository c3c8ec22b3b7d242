"""Types what a page says, block by block: a reader who does everything and notices what is not as it is printed.

A block of Python is written to its file: `# app.py` is the whole of it, `# app.py, at its end` goes there, `# app.py, report anew` takes the place of a
function. A block of shell is typed. A block of text is what is to be seen then: of the command before it, or, below `<!-- the log -->`, of the first one
that goes on running, in this part of the page. `…` stands for anything, and lines may come in any order: a log has a thread of its own. Commands that
only look are typed again until it is there.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import attrs
from pages import Block, blocks, path_of
from servers import ROOT, free_port, wait_for

GO_ON = ("trioworkers dev", "trioworkers web", "trioworkers run ", "python -m http.server")
LOOK = ("batches", "batch ", "cron", "ps", "queues", "retries", "scheduled", "dead", "jobs", "show", "stats", "watch")
NOT_TYPED = ("python3 -m venv", ". .venv/bin/activate", "pip install")
"""The test's own environment is there; tests/test_package.py installs the package in an empty one."""
# The one at the default address is none of ours.
PROGRAM = """#!{python}
import sys
import trioworkers.cli.dev.redises as redises
redises.DEFAULT_URL = "redis://127.0.0.1:{nobody}/0"
from trioworkers.cli import main
sys.exit(main())
"""


@attrs.define
class Running:
    """A command that goes on, and what it has said."""

    process: subprocess.Popen[bytes]
    log: Path
    before: int = 0
    """How long its log was when this part of the page began."""

    @property
    def news(self) -> str:
        """What it has said since then."""
        return self.log.read_bytes()[self.before :].decode(errors="replace")

    def mark(self) -> None:
        self.before = self.log.stat().st_size


@attrs.define
class Typist:
    """One reader at a desk. `folder`: where the reader is."""

    folder: Path
    _desk: Path
    running: list[Running] = attrs.Factory(list)
    said: str = ""
    last: str = ""
    ports: dict[str, str] = attrs.Factory(lambda: {"8000": str(free_port()), "8090": str(free_port())})

    def work_through(self, page: str) -> None:
        """The whole page. Raises AssertionError where it is not as printed."""
        self._make_programs()
        text, section = path_of(page).read_text(), 0
        for block in blocks(page):
            above = text.split("\n")[: block.line - 2]
            if (now := headings(above)) != section:
                section = now
                for each in self.running:
                    each.mark()
            if block.language == "python":
                self._write(block)
            elif block.language == "sh":
                for line in block.text.splitlines():
                    self._type(line.partition("  #")[0].strip())
            elif block.language == "text":
                self._look_for(block, in_the_log="<!-- the log -->" in above[-2:])

    def _make_programs(self) -> None:
        bin_ = self._desk / "bin"
        bin_.mkdir(parents=True)
        nobody = free_port()
        (bin_ / "trioworkers").write_text(PROGRAM.format(python=sys.executable, nobody=nobody))
        (bin_ / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        (bin_ / "pytest").write_text(f'#!/bin/sh\nexec {sys.executable} -m pytest -p no:cacheprovider "$@"\n')
        for each in bin_.iterdir():
            each.chmod(0o755)

    @property
    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name not in ("REDIS_URL", "NO_COLOR")}
        path = f"{self._desk / 'bin'}{os.pathsep}{kept['PATH']}"
        return {**kept, "PATH": path, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "COLUMNS": "200"}

    def _here(self, text: str) -> str:
        """With ports that are free on this machine."""
        return re.sub("|".join(self.ports), lambda found: self.ports[found[0]], text)

    def _write(self, block: Block) -> None:
        head, _, rest = block.text.partition("\n")
        name, _, where = head.removeprefix("# ").partition(", ")
        path, text = self.folder / name, self._here(rest)
        if where == "at its end":
            text = path.read_text() + text
        elif where:
            text = replaced(path.read_text(), where.removesuffix(" anew"), text)
        path.write_text(text)

    def _type(self, line: str) -> None:
        if not line or line.startswith(NOT_TYPED):
            return
        line, self.last, self.said = self._here(line), line, ""
        if line.startswith("mkdir"):
            (self.folder / line.split()[1]).mkdir()
        elif line.startswith("cd"):
            self.folder /= line.split()[1]
        elif line.startswith(GO_ON):
            self._start(line)
        else:
            self.said = self._said(line)

    def _start(self, line: str) -> None:
        if line == "trioworkers web":
            line += f" --bind 127.0.0.1:{self.ports['8090']}"
        log = self._desk / f"log{len(self.running)}"
        with log.open("wb") as sink:
            process = subprocess.Popen(
                shlex.split(line),
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
            )
        self.running.append(Running(process, log))

    def _said(self, line: str) -> str:
        done = subprocess.run(
            line,
            shell=True,
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def _look_for(self, block: Block, *, in_the_log: bool) -> None:
        patterns = [
            re.compile(".*".join(map(re.escape, line.split("…")))) for line in self._here(block.text).splitlines()
        ]
        goes_on = self.last.startswith(GO_ON)
        looks = self.last.removeprefix("trioworkers ").startswith(LOOK)

        def is_there() -> bool:
            if in_the_log or goes_on:
                self.said = self.running[0 if in_the_log else -1].news
            elif looks:
                self.said = self._said(self._here(self.last))
            return all(pattern.search(self.said) for pattern in patterns)

        if in_the_log or goes_on or looks:
            wait_for(is_there, f"{block}: {block.text}")
        else:
            assert is_there(), f"{block}: not {block.text!r} but {self.said!r}"

    def leave(self) -> list[int]:
        """Ctrl-C in each terminal; their exit statuses, in the order in which they were started."""
        for each in self.running:
            each.process.send_signal(signal.SIGINT)
        return [each.process.wait(60) for each in self.running]


def headings(lines: list[str]) -> int:
    """How many parts of a page have begun in these lines."""
    return sum(line.startswith("## ") for line in lines)


def replaced(text: str, name: str, by: str) -> str:
    """The text of a module with another text for one of its functions, its decorators included."""
    [found] = [each for each in ast.parse(text).body if getattr(each, "name", "") == name]
    lines = text.splitlines(keepends=True)
    begin = min(each.lineno for each in (found, *found.decorator_list)) - 1  # type: ignore[attr-defined]
    return "".join([*lines[:begin], by, *lines[found.end_lineno :]])
