"""Worker after worker: a new one whenever the code changes, until a signal ends it."""

from __future__ import annotations

import logging
import signal
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import trio

from trioworkers.broker.ungrouped import ungrouped
from trioworkers.cli.dev.messages import GIVE_UP
from trioworkers.cli.dev.redises import Redises
from trioworkers.cli.dev.watcher import Changes, watching
from trioworkers.cli.dev.worker_process import Wishes, WorkerProcess
from trioworkers.dev_note import NoteKeeper, keeping_note
from trioworkers.errors import NotFound

logger = logging.getLogger("trioworkers.dev")

PATIENCE_S = 3.0
"""After its deadline a worker has that long to end; it never takes so long (P3), but it runs the user's code."""


def develop(wishes: Wishes) -> int:
    """Run until stopped by a signal, or by trouble that no change of the code would end; returns the exit status. Raises ConfigurationError if another `dev` runs here, NotFound if there is nothing to watch where it should."""
    for path in wishes.watch:
        if not path.exists():
            raise NotFound(f"--watch: there is no {str(path)!r}")
    with ungrouped(), keeping_note(Path.cwd()) as note:
        return trio.run(_develop, wishes, note)


async def _develop(wishes: Wishes, note: NoteKeeper) -> int:
    # Signals are heard here as in run.py: this process has no worker in it that could be in their way.
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        async with trio.open_nursery() as nursery:
            async with AsyncExitStack() as servers:
                session = _Session(wishes, Redises(servers, note))
                nursery.start_soon(_obey, signals, session)
                await session.run()
            nursery.cancel_scope.cancel()
    return session.status


async def _obey(signals: AsyncIterator[int], session: _Session) -> None:
    async for _ in signals:
        session.stop()


class _Session:
    """Worker after worker, until told to stop."""

    def __init__(self, wishes: Wishes, redises: Redises) -> None:
        self._wishes = wishes
        self._redises = redises
        self._scope = trio.CancelScope()
        self._worker: WorkerProcess | None = None
        self.status = 0

    def stop(self) -> None:
        """Stop soon; called again: at once."""
        if self._scope.cancel_called and self._worker is not None:
            self._worker.terminate()
        self._scope.cancel()

    async def run(self) -> None:
        """Start, wait for a change, restart."""
        wishes = self._wishes
        folders = [Path.cwd(), *wishes.watch]
        if (path := Path(wishes.target)).suffix == ".py" and path.parent.is_dir():
            folders.append(path.parent)
        with self._scope:
            async with watching(folders) as changes:
                while True:
                    changes.forget()  # whatever came before, the next worker reads it
                    async with self._running() as worker:
                        async with trio.open_nursery() as nursery:
                            nursery.start_soon(worker.serve, self._redises)
                            nursery.start_soon(self._mourn, worker, changes)
                            changed = await self._concerning(changes, worker)
                            nursery.cancel_scope.cancel()
                        logger.info("%s changed: restarting", changed)

    async def _concerning(self, changes: Changes, worker: WorkerProcess) -> str:
        """Wait for a change that concerns the worker; its path, as one would write it here. In folders that were named every change does."""
        while True:
            paths = await changes.wait()
            if found := _in_one_of(self._wishes.watch, paths) or await worker.concerned(paths):
                return _as_written_here(found)
            logger.debug("%s: nothing of it is imported", ", ".join(sorted(paths)))

    async def _mourn(self, worker: WorkerProcess, changes: Changes) -> None:
        """The worker has ended and said why. Go on only if a change of the code may help."""
        status = await worker.process.wait()
        gives_up = status in (GIVE_UP + 1, GIVE_UP + 2)
        if gives_up or not changes.are_noticed:
            self.status = status - GIVE_UP if gives_up else int(status != 0)
            self._scope.cancel()
            return
        logger.warning("the worker ended with status %d; it starts again when a Python file changes", status)

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[WorkerProcess]:
        with trio.CancelScope(shield=True):  # or a stop could leave one that nobody knows of
            was_there = self._worker is not None  # or we would have ended
            self._worker = worker = await WorkerProcess.start(self._wishes, was_there=was_there)
        try:
            yield worker
        finally:
            with trio.CancelScope(shield=True):
                await worker.stop(self._wishes.shutdown_timeout + PATIENCE_S)


def _in_one_of(folders: Iterable[Path], paths: Iterable[str]) -> str:
    resolved = [folder.resolve() for folder in folders]
    return min(
        (each for each in paths if any(Path(each).resolve().is_relative_to(folder) for folder in resolved)), default=""
    )


def _as_written_here(path: str) -> str:
    return str(Path(path).relative_to(Path.cwd())) if Path(path).is_relative_to(Path.cwd()) else path
