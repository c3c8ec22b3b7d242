"""The pages as a site: `make site`. They stay Markdown, and are read in the repository as well."""

import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

project = "trioworkers"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
html_theme = "furo"
html_title = "trioworkers"
exclude_patterns = ["changes"]
myst_heading_anchors = 4
myst_links_external_new_tab = False
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", ".*")
]  # types in signatures: most are other packages', whose pages this site doesn't know
suppress_warnings = [
    "toc.not_included"
]  # a page that index.md doesn't list yet is found by the search, and by the links to it
autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80


def as_restructured(_app: Any, _what: str, _name: str, _it: Any, _options: Any, lines: list[str]) -> None:
    """Our docstrings are Markdown, as our pages are: `code`, fenced programs, lists with dashes."""
    text = re.sub(r"(?<!`)`([^`\n]+)`(?!`)", r"``\1``", "\n".join(lines))
    lines[:] = re.sub(
        r"^```\w*\n(.*?)^```$",
        lambda found: "::\n\n" + re.sub(r"^", "    ", found[1], flags=re.MULTILINE),
        text,
        flags=re.MULTILINE | re.DOTALL,
    ).split("\n")


def is_private(_app: Any, _what: str, _name: str, it: Any, skip: bool, _options: Any) -> bool | None:
    """What a docstring says is not for users is left out."""
    return True if skip or "Not for users" in (getattr(it, "__doc__", "") or "") else None


def setup(app: Any) -> None:
    app.connect("autodoc-process-docstring", as_restructured)
    app.connect("autodoc-skip-member", is_private)
