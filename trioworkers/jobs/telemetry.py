"""What traces jobs and calls, as an App is told of it: `App(telemetry=…)`. Without one nothing of this is in anybody's way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from trioworkers.jobs.context import Context
    from trioworkers.wire.job import Job


class Telemetry(Protocol):
    """`trioworkers.observe.tracing.OpenTelemetry` is one."""

    async def attempt(self, ctx: Context, call_next: Callable[[], Awaitable[Any]], /) -> Any:
        """A middleware, around all others."""

    def sending(self, jobs: Sequence[Job]) -> AbstractContextManager[Sequence[Job]]:
        """Around the sending of jobs: gives those that are sent instead, which say where they come from."""

    async def call(self, request: Any, send: Callable[[Any], Awaitable[Any]]) -> Any:
        """Around an HTTP call of a job."""

    def carried(self) -> Mapping[str, str]:
        """Where we are, for whoever goes on with it later, or in another process."""

    def within(self, carried: Mapping[str, str], /) -> AbstractContextManager[None]:
        """Go on there, while the block runs."""
