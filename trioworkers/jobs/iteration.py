"""Iteration: rows one after the other, over many attempts if need be; each goes on after the last row that was done."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable
from datetime import timedelta
from typing import Any, Generic, TypeVar

import trio

from trioworkers.jobs.progress import Progress
from trioworkers.jobs.recording import MAX_ITERATIONS, check_name
from trioworkers.seconds import MAX_SECONDS
from trioworkers.wire.lifetime import checked_seconds

T = TypeVar("T")
Source = Callable[[Any], AsyncIterable[tuple[Any, T]]]
ROWS_PER_ROUND = 100
"""A source that never waits would keep the event loop to itself."""


class Iteration(Generic[T]):
    """See `Context.iterate`. A row is done when the next one is asked for."""

    def __init__(
        self,
        progress: Progress,
        name: str,
        source: Source[T],
        *,
        every: int | timedelta,
        max_run: float | None,
        reset_retries: bool,
    ) -> None:
        check_name("iteration", name)
        self._every_rows, self._every_s = _interval(every)
        self._leaves_at = (
            None if max_run is None else trio.current_time() + checked_seconds("max_run", max_run, MAX_SECONDS)
        )
        self._record = record = progress.open_record()
        if name in record.iterations:
            raise ValueError(
                f"this job has an iteration named {name!r} already; names tell a later attempt where to go on"
            )
        if len(record.cursors.keys() | record.iterations | {name}) > MAX_ITERATIONS:
            raise ValueError(f"a job has {MAX_ITERATIONS} iterations at most")
        record.iterations.add(name)
        self._progress = progress
        self._name = name
        self._reset_retries = reset_retries
        where, over = record.cursors.get(name, (None, False))
        self._rows: AsyncIterator[tuple[Any, T]] | None = None if over else aiter(source(where))
        if self._rows is not None:
            record.sources.append(self._rows)
        self._cursor: Any = None
        self._is_in_row = False
        self._count = 0
        self._written_at = trio.current_time()

    def __aiter__(self) -> Iteration[T]:
        return self

    async def __anext__(self) -> T:
        if self._is_in_row:
            await self._end_row()
        if self._rows is None:
            raise StopAsyncIteration
        try:
            self._cursor, value = await anext(self._rows)
        except StopAsyncIteration:
            await self._end()
            raise
        self._is_in_row = True
        self._progress.begin_row()
        return value

    async def _end_row(self) -> None:
        self._is_in_row = False
        progress = self._progress
        progress.end_row()
        self._record.move(self._name, self._cursor)
        if self._reset_retries:
            progress.got_further = True
        self._count += 1
        if self._is_at_boundary():
            await progress.recorded(self._record, f"iteration {self._name!r}")
            self._written_at = trio.current_time()
        elif self._count % ROWS_PER_ROUND == 0:
            await trio.lowlevel.checkpoint()
        attempt = progress.attempt
        if attempt is None:
            return
        if attempt.is_stopping:
            attempt.leave()
            await trio.lowlevel.checkpoint()
        elif self._leaves_at is not None and trio.current_time() >= self._leaves_at:
            attempt.leave(to_others=True)
            await trio.lowlevel.checkpoint()

    def _is_at_boundary(self) -> bool:
        if self._every_rows:
            return self._count % self._every_rows == 0
        return trio.current_time() - self._written_at >= self._every_s

    async def _end(self) -> None:
        if self._rows is not None:
            self._record.sources.remove(self._rows)
        self._rows = None
        self._record.move(self._name, self._cursor, over=True)
        await self._progress.recorded(self._record, f"iteration {self._name!r}")


def _interval(every: int | timedelta) -> tuple[int, float]:
    """`(rows, seconds)` between two records, one of them 0. Raises ValueError for what can't be."""
    if isinstance(every, timedelta):
        return 0, checked_seconds("every", every.total_seconds(), MAX_SECONDS)
    if not isinstance(every, int) or isinstance(every, bool) or every < 1:
        raise ValueError(f"every is a number of rows from 1 on, or a timedelta, not {every!r:.80}")
    return every, 0.0
