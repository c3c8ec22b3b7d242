"""Watches Python files for changes, in a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

logger = logging.getLogger("trioworkers.dev")

CALM_MS = 200
"""What changes within this time is one change: an editor's save, a git checkout."""


class Changes:
    """What has changed; a change that nobody waits for is kept."""

    def __init__(self) -> None:
        self._paths: set[str] = set()
        self._happened = trio.Event()
        self.are_noticed = True
        """False: nobody watches."""

    def note(self, paths: Collection[str]) -> None:
        """Something changed."""
        self._paths.update(paths)
        self._happened.set()

    def forget(self) -> None:
        """What has changed so far does not matter."""
        self._happened = trio.Event()
        self._paths.clear()

    async def wait(self) -> frozenset[str]:
        """The paths of what changed since the last time."""
        await self._happened.wait()
        paths = frozenset(self._paths)
        self.forget()
        return paths


@asynccontextmanager
async def watching(folders: Sequence[Path]) -> AsyncIterator[Changes]:
    """Changes of Python files in `folders` and below. Without watchfiles there are none, which is said once."""
    changes = Changes()
    try:
        from watchfiles import PythonFilter, watch  # noqa: PLC0415 - not everybody has it
    except ImportError:
        changes.are_noticed = False
        logger.warning("changes of the code are not noticed: pip install watchfiles")
        yield changes
        return
    token = trio.lowlevel.current_trio_token()
    done = threading.Event()
    logging.getLogger("watchfiles").setLevel(logging.WARNING)

    def run() -> None:
        options: dict[str, Any] = {"debounce": CALM_MS * 4, "step": CALM_MS, "rust_timeout": 500, "stop_event": done}
        try:
            for found in watch(*folders, watch_filter=PythonFilter(), raise_interrupt=False, **options):
                token.run_sync_soon(changes.note, [path for _, path in found])
        except trio.RunFinishedError:
            pass
        except OSError as error:
            changes.are_noticed = False
            logger.warning("changes of the code are not noticed: %s", error)

    thread = threading.Thread(target=run, name="trioworkers-watcher", daemon=True)
    thread.start()
    try:
        yield changes
    finally:
        done.set()
