"""What the package says of itself that depends on where the project lives: its links, and those of its page, which is the README."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_LINK = re.compile(r"\[([^\]]+)\]\((?!https?://|#|mailto:)([^)]+)\)")


def page(text: str, home: str, version: str) -> str:
    """A Markdown page for whoever has no checkout: links to our files lead to those of this version; without a home they are only their words."""
    return _LINK.sub(rf"[\1]({home}/blob/v{version}/\2)" if home else r"\1", text)


def urls(home: str, version: str) -> dict[str, str]:
    """`project.urls`."""
    if not home:
        return {}
    return {
        "Homepage": home,
        "Documentation": f"{home}/tree/v{version}/docs",
        "Changelog": f"{home}/blob/v{version}/docs/changelog.md",
        "Issues": f"{home}/issues",
    }


class Links(MetadataHookInterface):
    """See hatchling. `home`: where the repository can be seen; TRIOWORKERS_HOME in the environment of a build goes before."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Fill in what is dynamic."""
        home = (os.environ.get("TRIOWORKERS_HOME") or str(self.config.get("home", ""))).rstrip("/")
        version = str(metadata["version"])
        readme = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": page(readme, home, version)}
        metadata["urls"] = urls(home, version)
