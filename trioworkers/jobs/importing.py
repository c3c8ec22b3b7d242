"""When a program is imported for what it declares, it must not run a worker: those who import it want its App, or one of its functions."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from trioworkers.errors import ConfigurationError

_GUARD = 'what runs one belongs under `if __name__ == "__main__":`'
_imported: list[str] = []


@contextmanager
def imported_for_its_app(target: str) -> Iterator[None]:
    """Within the block no worker is run: `target` is imported, and then its App is run."""
    _imported.append(target)
    try:
        yield
    finally:
        _imported.pop()


def check_not_imported() -> None:
    """Raise ConfigurationError if the program is being imported by somebody who doesn't want it to run."""
    if _imported:
        raise ConfigurationError(f"{_imported[-1]!r} runs a worker when it is imported: {_GUARD}")
    # A child that computes imports the program once more, to find its functions. A worker there would be one that nobody wants.
    process = sys.modules.get("multiprocessing.process")
    if process is not None and getattr(process.current_process(), "_inheriting", False):
        raise ConfigurationError(
            f"the program runs a worker when it is imported, and a process that computes for it imports it: {_GUARD}"
        )
