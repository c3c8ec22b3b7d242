"""Which changes concern the worker of `dev`: those of files that it has imported, and new files beside them, which it might import."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path


class OwnFiles:
    """As of when it is made, files that are there and not imported are of no concern: a test, a script."""

    def __init__(self) -> None:
        here = os.path.realpath(Path.cwd())
        folders = {folder for folder in _folders() if folder == here or folder.startswith(f"{here}{os.sep}")}
        self._of_no_concern = {os.path.realpath(path) for folder in folders for path in Path(folder).glob("*.py")}

    def concerned(self, paths: Iterable[str]) -> str:
        """The first of `paths` that concerns this process; "" if none does. From any thread."""
        imported, folders = set(_imported()), _folders()
        for path in sorted(paths):
            real = os.path.realpath(path)
            if real in imported or (os.path.dirname(real) in folders and real not in self._of_no_concern):  # noqa: PTH120 - as they stand there
                return path
        return ""


def _folders() -> set[str]:
    return {os.path.dirname(path) for path in _imported()}  # noqa: PTH120 - there are thousands


def _imported() -> Iterator[str]:
    for module in list(sys.modules.values()):
        with suppress(Exception):  # anything may stand there
            file = module.__file__
            if isinstance(file, str):
                yield os.path.realpath(file)
