"""`manage.py trioworkers`: a worker for the tasks of a backend."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from trioworkers.errors import TrioworkersError


class Command(BaseCommand):  # type: ignore[misc]  # Django has no types
    """See `help`."""

    help = (
        "Run a worker for the tasks of TASKS until it is stopped. TERM or INT stops it: tasks that run get the shutdown timeout, "
        "the rest goes back to its queue. A second signal ends at once."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """See Django."""
        parser.add_argument("--backend", default="default", help="Which of TASKS. Default: default.")
        parser.add_argument(
            "--queue", action="append", default=[], help="A queue to serve; may be repeated. Default: all."
        )
        parser.add_argument(
            "--concurrency", type=int, help="Tasks of a queue that run at once. Default: what OPTIONS says, or 10."
        )
        parser.add_argument("--process-id", help="A name for this worker that it keeps over restarts.")
        parser.add_argument(
            "--shutdown-timeout",
            type=float,
            help="Seconds that running tasks get when the worker is stopped. Default: 25.",
        )

    def handle(self, *_: Any, **options: Any) -> None:
        """See Django."""
        from trioworkers.django.api import task_backends  # noqa: PLC0415 - `--help` should not wait for it
        from trioworkers.django.backend import TasksBackend  # noqa: PLC0415 - as above
        from trioworkers.django.running import worker_app  # noqa: PLC0415 - as above

        alias = options["backend"]
        backend = task_backends[alias]
        if not isinstance(backend, TasksBackend):
            raise CommandError(f"TASKS[{alias!r}] is no trioworkers.django.TasksBackend")
        strangers = sorted(set(options["queue"]) - set(backend.queues)) if backend.queues else []
        if strangers:
            raise CommandError(
                f"TASKS[{alias!r}] has no queue {strangers[0]!r}; there are {', '.join(sorted(backend.queues))}"
            )
        try:
            app = worker_app(alias, options["queue"], options["concurrency"])
            app.configure(process_id=options["process_id"], shutdown_timeout=options["shutdown_timeout"])
            app.run()
        except TrioworkersError as error:
            raise CommandError(str(error)) from error
