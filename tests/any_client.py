"""The three clients as one kind of thing: what each does is waited for, so that one test is for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import trio

import trioworkers
import trioworkers.asyncio
import trioworkers.sync
from trioworkers import App, Job, Sent

CLASSES = {"trio": trioworkers.Client, "sync": trioworkers.sync.Client, "asyncio": trioworkers.asyncio.Client}
KINDS = tuple(CLASSES)


class AnyClient:
    """A client of some kind, whose calls block."""

    def __init__(self, kind: str, url: str | None = None, *, app: App | None = None, **options: Any) -> None:
        self.duplicates: dict[str, str] = {}
        self._kind = kind
        self._runner = asyncio.Runner() if kind == "asyncio" else None
        if kind == "trio":
            options.pop("retry_for", None)  # it says at once what happened
        if app is not None:
            doors = {"trio": app.client, "sync": app.sync_client, "asyncio": app.asyncio_client}
            self.client: Any = doors[kind](**options)
        else:
            self.client = CLASSES[kind](url, **options)

    def enqueue(self, *jobs: Job) -> list[Sent]:
        return self._do(lambda client: client.enqueue(*jobs))

    def schedule(self, when: Any, *jobs: Job) -> list[Sent]:
        return self._do(lambda client: client.schedule(when, *jobs))

    def periodic(self, name: str, expression: str, job: Job, **options: Any) -> None:
        self._do(lambda client: client.periodic(name, expression, job, **options))

    def delete_periodic(self, name: str) -> bool:
        return bool(self._do(lambda client: client.delete_periodic(name)))

    def result(self, jid: str, **options: Any) -> Any:
        return self._do(lambda client: client.result(jid, **options))

    def batch(self, jobs: Sequence[Job], *, error: Exception | None = None, **callbacks: Job) -> str:
        """An open batch, to which jobs are added one by one, and which ends by an error, if any."""
        if self._kind == "sync":
            with self.client.batch("many", **callbacks) as batch:
                for job in jobs:
                    self.duplicates |= batch.add(job).duplicates
                if error is not None:
                    raise error
            return str(batch.id)

        async def filled(client: Any) -> str:
            async with client.batch("many", **callbacks) as batch:
                for job in jobs:
                    self.duplicates |= (await batch.add(job)).duplicates
                if error is not None:
                    raise error
            return str(batch.id)

        return str(self._do(filled))

    def close(self) -> None:
        if self._runner is not None:
            self._runner.run(self.client.aclose())
            self._runner.close()
        elif self._kind == "sync":
            self.client.close()

    def _do(self, call: Callable[[Any], Any]) -> Any:
        if self._kind == "sync":
            return call(self.client)
        if self._runner is not None:

            async def once() -> Any:
                return await call(self.client)

            return self._runner.run(once())

        async def opened() -> Any:
            async with self.client as client:
                return await call(client)

        return trio.run(opened)
