"""The programs in our pages: a block of Python whose first line is `# name.py` is a file of that name."""

from __future__ import annotations

import re
from pathlib import Path

from servers import ROOT


def programs(page: str) -> dict[str, str]:
    """The programs of a page under docs/, by file name."""
    text = (ROOT / "docs" / page).read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    named = [(re.match(r"# ([\w/]+\.py)\n", block), block) for block in blocks]
    return {name[1]: block for name, block in named if name}


def write_programs(page: str, folder: Path) -> dict[str, Path]:
    """Write them to a folder."""
    files = {}
    for name, text in programs(page).items():
        files[name] = folder / name
        files[name].parent.mkdir(parents=True, exist_ok=True)
        files[name].write_text(text)
    return files
