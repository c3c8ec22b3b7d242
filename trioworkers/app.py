"""App: what a program declares (`jobs/declarations.py`), and how it is run.

The one place from which declarations reach up to the engine: so it stands on the street, and nothing below imports it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trioworkers.jobs.declarations import Declarations

if TYPE_CHECKING:
    import trio

    from trioworkers import asyncio, sync
    from trioworkers.engine.worker import Worker
    from trioworkers.jobs.client import Client


class App(Declarations):
    """Queues and handlers, and how to run them.

    `redis_url`: redis://, rediss://, redis+sentinel://, redis+cluster://, unix:// or embedded:; not given: REDIS_URL, or redis://localhost:6379/0. `process_id`: a name
    for this worker that it keeps over restarts; not given: a new one each time. `namespace`: goes before all keys. `dialect`: whose
    jobs are run and sent, "sidekiq", "resque" or "goworkers"; "resque:prod" for another namespace than that family's usual one.
    `shutdown_timeout`, `lease`: seconds, see `Settings`. `lifespan`: a function that returns an async context manager; what it
    yields is `ctx.state`. `http`: options of the shared HTTP client. `unknown`: what becomes of jobs whose class has no handler here:
    "retry" (they fail like any other), "dead", or "leave" (others may have them: back after a delay, no attempt charged).
    `telemetry`: traces, `trioworkers.observe.tracing.OpenTelemetry()`.
    `strict`: don't run on a queue from which another kind of worker fetches. Raises ConfigurationError.
    """

    def client(self) -> Client:
        """A client for Trio programs, for this app's own Redis, namespace and dialects: `async with app.client() as client`. Raises ConfigurationError."""
        from trioworkers.jobs.client import Client  # noqa: PLC0415 - who only declares and sends otherwise needs no Trio

        return Client.for_app(self)

    def sync_client(self, **options: Any) -> sync.Client:
        """A `trioworkers.sync.Client` for this app's own Redis, namespace and dialects. `options`: `retry_for`, `max_connections`. Raises ConfigurationError."""
        from trioworkers.sync import Client  # noqa: PLC0415 - few need it

        return Client.for_app(self, **options)

    def asyncio_client(self, **options: Any) -> asyncio.Client:
        """A `trioworkers.asyncio.Client` for this app's own Redis, namespace and dialects. `options`: `retry_for`, `max_connections`. Raises ConfigurationError."""
        from trioworkers.asyncio import Client  # noqa: PLC0415 - few need it, and no Trio program asyncio

        return Client.for_app(self, **options)

    def run(self) -> None:
        """Run a worker until it is stopped; handles Unix signals. Blocks. Raises as `serve` does."""
        from trioworkers.process.run import run  # noqa: PLC0415 - who only declares and sends needs neither engine nor Trio

        run(self)

    async def serve(self, *, task_status: trio.TaskStatus[Worker] | None = None) -> None:
        """Run a worker inside your own Trio program; signals are yours. `worker = await nursery.start(app.serve)`.

        Cancelled, it stops as by TERM: it fetches no more, gives running jobs the shutdown timeout, puts back the rest and returns.
        Raises ConfigurationError, Refused (Redis won't have us), Superseded (the process id is taken) or, if strict, SharedQueue.
        """
        import trio  # noqa: PLC0415 - as above

        from trioworkers.engine.serve import serve  # noqa: PLC0415 - as above

        await serve(self, task_status=task_status or trio.TASK_STATUS_IGNORED)
