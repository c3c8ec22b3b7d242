"""Fan-out: named calls in the job's nursery.

The names that are done (and those that failed for good) travel in the payload, so that the next attempt sends only what
failed for a moment. Every request carries `Idempotency-Key: JID:NAME`, the same in every attempt.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

import trio

from trioworkers.errors import CallFailed, FanOutError
from trioworkers.http.failure import failure_of
from trioworkers.http.idempotency import HEADER, idempotency_key
from trioworkers.jobs.http_call import HttpCall
from trioworkers.jobs.progress import Progress

if TYPE_CHECKING:
    import httpx

    from trioworkers.http.start_limiter import StartLimiter


CALLS_WITH_IT = 4
"""Calls that start in the turn of their fan-out. Were each to wait for its own, that would be some percent of what a job of a few calls costs."""


class Responses(dict[str, Any]):
    """Results by name. A call that was done in an earlier attempt has none: it was not made again."""

    def __init__(self, earlier: Collection[str]) -> None:
        super().__init__()
        self._earlier = earlier

    def __missing__(self, name: str) -> Any:
        if name in self._earlier:
            raise KeyError(f"{name!r} was done in an earlier attempt, whose response is not available any more")
        raise KeyError(name)


class FanOut:
    """The calls of one fan-out. Each has its own name within the job. All run at once, and the end of the block waits for them.

    `responses[name]` is an `httpx.Response`, or what the function of `start` returned. It has only the calls of this attempt. `skipped` has the names
    of calls that earlier attempts have done. These are not made again, and their responses are gone.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        client: httpx.AsyncClient,
        turns: StartLimiter | None,
        jid: str,
        progress: Progress,
        limiter: trio.CapacityLimiter | None,
        timeout_s: float | None,
        checkpoint: bool,
    ) -> None:
        self._nursery = nursery
        self._client = client
        self._turns = turns
        self._turn = -1 if turns is None else turns.rounds
        self._jid = jid
        self._progress = progress
        self._limiter = limiter
        self._timeout_s = timeout_s
        self._saves_at_once = checkpoint
        self._failures: list[CallFailed] = []
        self._total = 0
        self.skipped: list[str] = []
        self.responses = Responses(self.skipped)

    def __repr__(self) -> str:
        done, failed = len(self.responses), len(self._failures)
        return f"<FanOut of {self._total}: {done} done, {failed} failed, {len(self.skipped)} done before>"

    def request(
        self, name: str, method: str, url: str, *, expect: Collection[int] | None = None, **options: Any
    ) -> None:
        """Send an HTTP request under `name`, with what `httpx.AsyncClient.request` takes.

        2xx is success, and so is a status in `expect`. 408, 425, 429, 5xx, broken connections and timeouts are worth a retry. Other failures are
        permanent. A status that was read counts, also if the body after it is broken or never ends. Then a POST (or another method that changes something)
        is done, and `response.content` raises the error. A GET is worth a retry.

        Raises ValueError for a name that this job has used already, or that can't be written in UTF-8.
        """
        headers = dict(options.pop("headers", None) or {})
        if not any(key.lower() == "idempotency-key" for key in headers):
            headers[HEADER] = idempotency_key(self._jid, name)
        if self._timeout_s is not None:
            options.setdefault("timeout", self._timeout_s)

        call = HttpCall(self._client, self._jid, name, expect, self._finished, self._has_turn())
        self._launch(name, partial(call.make, method, url, headers, options))

    def get(self, name: str, url: str, **options: Any) -> None:
        """`request` with GET."""
        self.request(name, "GET", url, **options)

    def post(self, name: str, url: str, **options: Any) -> None:
        """`request` with POST."""
        self.request(name, "POST", url, **options)

    def put(self, name: str, url: str, **options: Any) -> None:
        """`request` with PUT."""
        self.request(name, "PUT", url, **options)

    def patch(self, name: str, url: str, **options: Any) -> None:
        """`request` with PATCH."""
        self.request(name, "PATCH", url, **options)

    def delete(self, name: str, url: str, **options: Any) -> None:
        """`request` with DELETE."""
        self.request(name, "DELETE", url, **options)

    def start(self, name: str, function: Callable[..., Awaitable[Any]], *args: Any) -> None:
        """Await `function(*args)` under `name`, for calls that aren't HTTP. An exception is worth a retry, unless it is a permanent CallFailed."""

        async def call() -> Any:
            return await function(*args)

        self._launch(name, call)

    async def checkpoint(self) -> None:
        """Wait until Redis has recorded which calls are done. Then they are not made again even after `kill -9`.

        In an outage it waits for Redis, until the job's deadline. If it is cancelled, the calls that are done are written with the job's outcome.
        """
        await self._progress.save().wait()

    def _has_turn(self) -> bool:
        """Whether a call needn't wait for a round with room: this one had it."""
        if self._turns is None or self._total >= CALLS_WITH_IT or self._limiter is not None:
            return False
        return self._turns.rounds == self._turn

    def _launch(self, name: str, call: Callable[[], Awaitable[Any]]) -> None:
        if not isinstance(name, str) or not name:
            raise TypeError(f"a call's name is a text, which travels in the job's payload, not {name!r}")
        if not name.isascii() and any("\ud800" <= letter <= "\udfff" for letter in name):
            raise ValueError(f"a call's name travels in the job's payload, where {name!r} has no form: it is not UTF-8")
        if name in self._progress.used:
            raise ValueError(f"this job has a call named {name!r} already; names tell a retry what was done")
        if name in self._progress.row_before:
            raise ValueError(
                f"the row before had a call named {name!r}: in an iteration calls are named by their row, too"
            )
        self._total += 1
        if self._progress.expect(name):
            task_name = f"fan-out {name}"
            if self._limiter is None:
                self._nursery.start_soon(self._attempt, name, call, name=task_name)
            else:
                self._nursery.start_soon(self._attempt_within, self._limiter, name, call, name=task_name)
        elif self._progress.is_done(name):
            self.skipped.append(name)
        elif (reason := self._progress.reason_of_failure(name)) is not None:
            self._failures.append(CallFailed(name, reason, permanent=True))

    async def _attempt_within(
        self, limiter: trio.CapacityLimiter, name: str, call: Callable[[], Awaitable[Any]]
    ) -> None:
        async with limiter:
            await self._attempt(name, call)

    async def _attempt(self, name: str, call: Callable[[], Awaitable[Any]]) -> None:
        started_at = trio.current_time()
        try:
            self.responses[name] = await call()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this call's failure, reported when the block ends
            failure = failure_of(name, error, trio.current_time() - started_at)
            self._failures.append(failure)
            if failure.permanent:
                self._progress.gave_up(failure)
                self._note()
        else:
            self._finished(name)

    def _finished(self, name: str) -> None:
        if self._progress.finished(name):
            self._note()

    def _note(self) -> None:
        if self._saves_at_once:
            self._progress.save()

    def finish(self) -> None:
        """Raise FanOutError if some calls failed. The failures that decide the job's outcome come first, because of very many not all are read."""
        if self._failures:
            self._failures.sort(key=lambda failure: (failure.permanent, failure.paused))
            raise FanOutError(self._failures, self._total)


class open_fan_out(AbstractAsyncContextManager[FanOut]):  # noqa: N801 - used as a function; an asynchronous generator costs more than a call's task
    """See `Context.fan_out`. An exception in the block's body cancels the calls and is raised as it is."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        jid: str,
        progress: Progress,
        *,
        limit: int | None = None,
        timeout_s: float | None = None,
        checkpoint: bool = False,
    ) -> None:
        # The shared client's: a thousand fan-outs that begin at once share the event loop with others.
        self._turns: StartLimiter | None = getattr(client, "fan_out_limiter", None)
        limiter = None if limit is None else trio.CapacityLimiter(limit)
        self._what = (client, self._turns, jid, progress, limiter, timeout_s, checkpoint)

    async def __aenter__(self) -> FanOut:
        if self._turns is not None:
            await self._turns.pass_through()
        self._calls = trio.open_nursery()
        self._nursery = await self._calls.__aenter__()
        self._fan = FanOut(self._nursery, *self._what)
        return self._fan

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if isinstance(error, Exception):  # it goes past the nursery, so that it comes out ungrouped
            self._nursery.cancel_scope.cancel()
            await self._calls.__aexit__(None, None, None)
            return False
        has_ended = bool(await self._calls.__aexit__(kind, error, traceback))
        if has_ended:
            self._fan.finish()
        return has_ended
