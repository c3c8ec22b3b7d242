"""Writes the notes of a release, for people who have no checkout: `make release-notes VERSION=0.2.0`.

From the changelog, if that has the version already (`make changelog VERSION=…` moves the fragments there), else from what is in the fragments and under
"Unreleased". What may need a look before one upgrades comes first. TRIOWORKERS_HOME says where the repository can be seen; without it links are their words.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
KINDS = {
    "Security": "Security",
    "Removed": "Removed",
    "Changed": "Changed: look whether it concerns you",
    "Deprecated": "Deprecated",
    "Added": "New",
    "Fixed": "Mended",
}
"""The changelog's words in the order of the notes, and the notes' own."""


def section(changelog: str, version: str) -> str | None:
    """What the changelog has under a version, without its heading."""
    found = re.search(rf"^## \[{re.escape(version)}\][^\n]*\n(.*?)(?=^## \[|\Z)", changelog, re.MULTILINE | re.DOTALL)
    return found[1] if found else None


def by_kind(text: str) -> dict[str, list[str]]:
    """The changes of a section by kind; a kind that comes twice, since fragments went above what was there, is one."""
    kinds: dict[str, list[str]] = {}
    for kind, body in re.findall(r"^### (\w+)\n(.*?)(?=^### |\Z)", text, re.MULTILINE | re.DOTALL):
        kinds.setdefault(kind, []).extend(
            part.rstrip() for part in re.findall(r"^- .*\n?(?:^(?!- ).*\n?)*", body, re.MULTILINE)
        )
    return kinds


def notes(version: str, changes: dict[str, list[str]], home: str) -> str:
    """The whole text. Raises KeyError for a kind that nobody knows."""
    unknown = set(changes) - set(KINDS)
    if unknown:
        raise KeyError(f"the changelog has {', '.join(sorted(unknown))}, which the notes have no place for")
    lines = [f"# trioworkers {version}", "", "```sh", f"pip install --upgrade 'trioworkers=={version}'", "```"]
    for kind, words in KINDS.items():
        if changes.get(kind):
            lines += ["", f"## {words}", "", *changes[kind]]
    return elsewhere("\n".join(lines), home, version) + "\n"


def elsewhere(text: str, home: str, version: str) -> str:
    """Links between our pages, for who reads them elsewhere: as on the page of the package."""
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    if spec is None or spec.loader is None:
        raise ImportError("hatch_build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return str(module.page(re.sub(r"\]\((?!https?://|#)(?:\.\./docs/)?", "](docs/", text), home, version))


def fragments(version: str) -> str:
    """What `docs/changes/` comes to."""
    command = [sys.executable, "-m", "towncrier", "build", "--draft", "--version", version, "--dir", str(ROOT)]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True).stdout


def main() -> None:
    version = sys.argv[1].removeprefix("v")
    changelog = (ROOT / "docs" / "changelog.md").read_text(encoding="utf-8")
    text = section(changelog, version)
    if text is None:
        text = fragments(version) + (section(changelog, "Unreleased") or "")
    sys.stdout.write(notes(version, by_kind(text), os.environ.get("TRIOWORKERS_HOME", "").rstrip("/")))


if __name__ == "__main__":
    main()
