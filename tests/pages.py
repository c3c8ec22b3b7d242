"""The code in our pages, block by block.

A block of Python whose first line is `# name.py` is a file of that name. `<!-- not run: why -->` above a block says why no test runs it; readers
don't see it.
"""

from __future__ import annotations

import re
from pathlib import Path

import attrs
from servers import ROOT

_FENCE = re.compile(
    r"(?:<!-- not run: (?P<why>[^\n]+) -->\n+)?^(?P<fence>`{3,})(?P<language>[^\n]*)\n(?P<text>.*?)^(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)
_FILE = re.compile(r"# ([\w/]+\.py)\n")


@attrs.frozen
class Block:
    """`line`: where its text begins; `why_not_run`: what the page says of that."""

    page: str
    line: int
    language: str
    text: str
    why_not_run: str | None

    @property
    def name(self) -> str | None:
        """The file that it is."""
        found = _FILE.match(self.text) if self.language == "python" else None
        return found[1] if found else None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def path_of(page: str) -> Path:
    return ROOT / page if page == "README.md" else ROOT / "docs" / page


WHOLE = ("README.md", "handlers.md", "interop.md", "tutorial.md")
"""Pages all of whose Python is run by tests of their own, not only the programs that have names."""
PAGES = ["README.md", *sorted(path.name for path in (ROOT / "docs").glob("*.md"))]


def blocks(page: str) -> list[Block]:
    """All code of a page, in its order."""
    text = path_of(page).read_text()
    return [
        Block(page, text.count("\n", 0, found.start("text")) + 1, found["language"], found["text"], found["why"])
        for found in _FENCE.finditer(text)
    ]


def programs(page: str) -> dict[str, str]:
    """The programs of a page, by file name."""
    return {block.name: block.text for block in blocks(page) if block.name}


def write_programs(page: str, folder: Path) -> dict[str, Path]:
    """Write them to a folder."""
    files = {}
    for name, text in programs(page).items():
        files[name] = folder / name
        files[name].parent.mkdir(parents=True, exist_ok=True)
        files[name].write_text(text)
    return files
