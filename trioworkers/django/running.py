"""The worker's side: an App whose handlers are the tasks, and what one attempt is, in a thread or a process."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from traceback import format_exception
from typing import Any

import django
import msgspec.structs
import trio
from django.apps import apps
from django.db import close_old_connections

from trioworkers.app import App
from trioworkers.django.api import (
    TaskContext,
    TaskResultStatus,
    normalize_json,
    task_backends,
    task_finished,
    task_started,
)
from trioworkers.django.backend import TasksBackend
from trioworkers.django.results import moment, result_of
from trioworkers.errors import Bury, Discard, UnknownClass
from trioworkers.jobs.context import Context
from trioworkers.jobs.telemetry import Telemetry
from trioworkers.wire.task_record import MAX_TRACEBACK, TaskFailure, TaskRecord


def worker_app(alias: str, queues: Collection[str] = (), concurrency: int | None = None) -> App:
    """An App that runs the tasks of a backend; of these queues, or of all. Raises ConfigurationError."""
    backend = _backend(alias)
    told, tasks = backend.told, backend.discover()
    count = told.concurrency if concurrency is None else concurrency
    served = sorted(queues or backend.queues or {task.queue_name for task in tasks.values()})

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[trio.CapacityLimiter]:
        yield trio.CapacityLimiter(count * len(served))

    chosen = backend.client.chosen
    app = App(
        chosen.url,
        namespace=chosen.namespace or None,
        cpu_processes=max(1, count * len(served)),
        lifespan=lifespan,
        telemetry=told.telemetry,
    )
    run = partial(_in_process, told.telemetry) if told.isolate == "process" else _in_thread
    for queue in served:
        app.queue(queue, concurrency=count)
        for path in tasks:
            app.handler(queue, path, timeout=told.timeout)(_handler(run, alias))
    return app


def _handler(run: Callable[..., Any], alias: str) -> Callable[..., Any]:
    async def task(ctx: Context, args: list[Any], kwargs: dict[str, Any]) -> Any:
        job = ctx.job
        return await run(ctx, alias, job.jid, job.queue, job.job_class, args, kwargs, ctx.attempt)

    return task


async def _in_thread(ctx: Context, *call: Any) -> Any:
    # Abandoned when it is cancelled: a worker that stops must not wait for it, and check() has told of that.
    return await trio.to_thread.run_sync(partial(run_task, *call), abandon_on_cancel=True, limiter=ctx.state)


async def _in_process(telemetry: Telemetry | None, ctx: Context, *call: Any) -> Any:
    # What a thread has by itself: where in which trace it is.
    carried = {} if telemetry is None else telemetry.carried()
    return await ctx.run_cpu(run_traced, carried, *call)


def run_traced(carried: Mapping[str, str], alias: str, *call: Any) -> Any:
    """`run_task` in a process of its own."""
    if not apps.ready:
        django.setup()
    telemetry = _backend(alias).told.telemetry
    with nullcontext() if telemetry is None else telemetry.within(carried):
        return run_task(alias, *call)


def run_task(alias: str, jid: str, queue: str, path: str, args: list[Any], kwargs: dict[str, Any], attempt: int) -> Any:
    """One attempt; returns what the task returned, as JSON has it. Raises what the task raises. Blocks."""
    close_old_connections()
    try:
        return _Attempt(_backend(alias), jid, queue, path, args, kwargs).run(attempt)
    finally:
        close_old_connections()


class _Attempt:
    """What is told of it while it runs."""

    def __init__(
        self, backend: TasksBackend, jid: str, queue: str, path: str, args: list[Any], kwargs: dict[str, Any]
    ) -> None:
        task = backend.find(path)
        if task is None:
            raise UnknownClass(f"no task {path!r} is declared in this program")
        self._task = task
        self._backend = backend
        self._jid = jid
        self._record = backend.read(jid) or TaskRecord(path, args, kwargs, queue)  # others may have sent it

    def run(self, attempt: int) -> Any:
        """Run it, once."""
        while_running_s, afterwards_s = self._backend.keeps_s
        now_s, record = time.time(), self._record
        self._note(
            while_running_s,
            running=True,
            started_at=record.started_at or now_s,
            last_attempted_at=now_s,
            finished_at=None,
            workers=[*record.workers, _worker_id()],
        )
        result = self._result()
        task_started.send(type(self._backend), task_result=result)
        try:
            given = (TaskContext(task_result=result),) if self._task.takes_context else ()
            value = normalize_json(self._task.call(*given, *self._record.args, **self._record.kwargs))
        except BaseException as error:
            is_last = attempt > self._backend.told.retry or isinstance(error, Bury | Discard)
            self._failed(error, is_last, afterwards_s if is_last else while_running_s)
            raise
        self._note(afterwards_s, running=False, finished_at=time.time())
        self._tell(result, TaskResultStatus.SUCCESSFUL, value)
        return value

    def _failed(self, error: BaseException, is_last: bool, keep_s: float) -> None:
        kind = type(error)
        traceback = "".join(format_exception(error))[-MAX_TRACEBACK:]
        failure = TaskFailure(f"{kind.__module__}.{kind.__qualname__}", traceback)
        finished_at = time.time() if is_last else None
        self._note(keep_s, running=False, finished_at=finished_at, failures=[*self._record.failures, failure])
        if is_last:
            self._tell(self._result(), TaskResultStatus.FAILED)

    def _note(self, keep_s: float, **changes: Any) -> None:
        self._record = msgspec.structs.replace(self._record, **changes)
        self._backend.keep(self._jid, self._record, keep_s)

    def _result(self) -> Any:
        task = self._task.using(queue_name=self._record.queue)
        return result_of(task, self._backend.alias, self._jid, self._record, None)

    def _tell(self, result: Any, status: Any, value: Any = None) -> None:
        object.__setattr__(result, "status", status)
        object.__setattr__(result, "finished_at", moment(self._record.finished_at))
        object.__setattr__(result, "_return_value", value)
        task_finished.send(type(self._backend), task_result=result)


def _backend(alias: str) -> TasksBackend:
    backend = task_backends[alias]
    assert isinstance(backend, TasksBackend)  # noqa: S101 - the command has looked
    return backend


def _worker_id() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"[:64]
