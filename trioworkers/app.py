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

    - `redis_url`: redis://, rediss://, redis+sentinel://, redis+cluster://, unix:// or embedded:. Default: REDIS_URL, or redis://localhost:6379/0.
    - `process_id`: a name that the worker keeps after a restart. Default: a new name each time.
    - `namespace`: a text before all keys.
    - `dialect`: the format of the jobs: "sidekiq", "resque" or "goworkers". "resque:prod" means another namespace than the usual one.
    - `shutdown_timeout`: seconds that running jobs have to end when the worker is stopped.
    - `lease`: if the worker is silent for so many seconds, others take over its jobs.
    - `lifespan`: a function that returns an async context manager around all jobs. The value that it yields is `ctx.state`.
    - `http`: options of the shared HTTP client.
    - `unknown`: what becomes of jobs whose class has no handler. "retry": they fail like others. "dead": they go to the dead set. "leave": they
      go back for other workers after a delay, and no attempt is counted.
    - `telemetry`: traces, `trioworkers.observe.tracing.OpenTelemetry()`.
    - `strict`: don't run on a queue from which another kind of worker fetches.

    Raises ConfigurationError.
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
        """Run a worker until it is stopped. Blocks, and handles Unix signals. Raises the same as `serve`."""
        from trioworkers.process.run import run  # noqa: PLC0415 - who only declares and sends needs neither engine nor Trio

        run(self)

    async def serve(self, *, task_status: trio.TaskStatus[Worker] | None = None) -> None:
        """Run a worker inside your own Trio program: `worker = await nursery.start(app.serve)`. It touches no signals.

        If it is cancelled, it stops as after TERM: it fetches no more, gives running jobs the shutdown timeout, puts back the others and returns.
        Raises ConfigurationError, Refused (Redis refuses us), Superseded (the process id is taken) or, if strict, SharedQueue.
        """
        import trio  # noqa: PLC0415 - as above

        from trioworkers.engine.serve import serve  # noqa: PLC0415 - as above

        await serve(self, task_status=task_status or trio.TASK_STATUS_IGNORED)
