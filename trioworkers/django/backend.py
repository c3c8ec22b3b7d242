"""TasksBackend: what Django's Tasks ask of a backend, over the blocking client."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from django.core import checks
from django.db import connections, transaction
from django.utils.asyncio import async_unsafe
from django.utils.module_loading import autodiscover_modules

from trioworkers.django.api import (
    BaseTaskBackend,
    Task,
    TaskResult,
    TaskResultDoesNotExist,
    TaskResultStatus,
    task_enqueued,
)
from trioworkers.django.options import DAY_S, Options, options_in
from trioworkers.django.results import moment, result_of
from trioworkers.errors import ConfigurationError
from trioworkers.jobs.telemetry import Telemetry
from trioworkers.sync import Client
from trioworkers.wire.ended import decode_ended
from trioworkers.wire.job import Job, new_jid
from trioworkers.wire.keys import is_queue_name
from trioworkers.wire.task_record import TaskRecord, decode_record, encode_record

F = TypeVar("F", bound=Callable[..., Any])
DECLARED: dict[str, dict[str, Any]] = {}
"""By backend and module path: the tasks that this process has imported. Only these are run; what a payload names is never imported."""
_CLIENTS: dict[Options, Client] = {}
_WAIT_S = 7 * DAY_S
"""For how long what is known of a task is kept before its end, beyond when it is due."""


def _not_in_an_event_loop(message: str) -> Callable[[F], F]:
    found: Callable[[F], F] = async_unsafe(message)
    return found


class TasksBackend(BaseTaskBackend):  # type: ignore[misc]  # Django has no types
    """Sends tasks as jobs: class = the task's module path, arguments = [args, kwargs]. Django makes one for each thread.

    `OPTIONS`: see `Options`.
    """

    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = False

    def __init__(self, alias: str, params: Mapping[str, Any]) -> None:
        super().__init__(alias, params)
        self.told = options_in(alias, params.get("OPTIONS", {}))

    @property
    def client(self) -> Client:
        """The client of all threads. Raises ConfigurationError."""
        found = _CLIENTS.get(self.told)
        if found is None:
            told = self.told
            made = Client(told.url, namespace=told.namespace, retry_for=told.retry_for)
            found = _CLIENTS.setdefault(told, made)
        return found

    # ── sending ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def validate_task(self, task: Task) -> None:
        """As Django's; and from now on it is known. Called when a task is declared."""
        super().validate_task(task)
        DECLARED.setdefault(self.alias, {}).setdefault(task.module_path, task)

    @_not_in_an_event_loop("A task is enqueued with `await task.aenqueue(…)` here: this would block the event loop.")
    def enqueue(self, task: Task, args: Sequence[Any], kwargs: Mapping[str, Any]) -> TaskResult:
        """Send a task; within a transaction, when that commits. Raises as `trioworkers.sync.Client.enqueue`; TypeError for what is no JSON."""
        self.validate_task(task)
        result = TaskResult(
            task=task,
            id=new_jid(),
            status=TaskResultStatus.READY,
            enqueued_at=None,
            started_at=None,
            last_attempted_at=None,
            finished_at=None,
            args=list(args),
            kwargs=dict(kwargs),
            backend=self.alias,
            errors=[],
            worker_ids=[],
        )
        job = Job(
            task.queue_name,
            task.module_path,
            [result.args, result.kwargs],
            jid=result.id,
            retry=self.told.retry,
            keep_result=self.told.keep_results,
        )
        self.client.check(job)  # what is wrong with it shows here, not when the transaction is committed
        send = partial(self._send, job, result)
        if (telemetry := self.told.telemetry) is not None:
            # A transaction may be committed when what enqueued the task is over.
            send = partial(self._send_traced, telemetry, telemetry.carried(), job, result)
        if self.told.enqueue_on_commit and connections[self.told.database].in_atomic_block:
            transaction.on_commit(send, using=self.told.database)
        else:
            send()
        return result

    def _send_traced(self, telemetry: Telemetry, carried: Mapping[str, str], job: Job, result: TaskResult) -> None:
        with telemetry.within(carried), telemetry.sending([job]) as (traced,):
            self._send(traced, result)

    def _send(self, job: Job, result: TaskResult) -> None:
        run_after = result.task.run_after
        due_s = None if run_after is None else run_after.timestamp()
        now_s = time.time()
        record = TaskRecord(job.job_class, result.args, result.kwargs, job.queue, due_s, now_s)
        # Before the job, which may begin at once. If that can't be sent, this goes by itself.
        self.keep(job.jid, record, (due_s or now_s) - now_s + _WAIT_S)
        if run_after is None:
            self.client.enqueue(job)
        else:
            self.client.schedule(run_after, job)
        object.__setattr__(result, "enqueued_at", moment(now_s))
        task_enqueued.send(type(self), task_result=result)

    # ── results ────────────────────────────────────────────────────────────────────────────────────────────────────────

    @_not_in_an_event_loop(
        "A result is asked for with `await task.aget_result(…)` here: this would block the event loop."
    )
    def get_result(self, result_id: str) -> TaskResult:
        """How far a task is. Raises TaskResultDoesNotExist: it isn't sent yet, or its result isn't kept any more; Unavailable, Refused."""
        keys = self.client.keys
        kept, end = self.client.command("MGET", keys.task(result_id), keys.result(result_id))
        record = None if kept is None else decode_record(kept)
        task = None if record is None else self.find(record.task)
        if record is None or task is None:
            raise TaskResultDoesNotExist(result_id)
        as_sent = task.using(queue_name=record.queue, run_after=moment(record.due_at))
        return result_of(as_sent, self.alias, result_id, record, None if end is None else decode_ended(end))

    def read(self, jid: str) -> TaskRecord | None:
        """What is kept of a task. Raises Unavailable, Refused."""
        text = self.client.command("GET", self.client.keys.task(jid))
        return None if text is None else decode_record(text)

    def keep(self, jid: str, record: TaskRecord, seconds: float) -> None:
        """Keep it. Raises Unavailable, Refused."""
        key = self.client.keys.task(jid)
        self.client.command("SET", key, encode_record(record), "EX", max(1, int(seconds)))

    @property
    def keeps_s(self) -> tuple[float, float]:
        """For how long a record is kept while the task isn't over, and afterwards."""
        return _WAIT_S + self.told.keep_results, self.told.keep_results

    def find(self, path: str) -> Any:
        """The task that was declared under a module path; None for what nobody has declared. Looks into the modules where tasks are once more."""
        declared = DECLARED.get(self.alias, {})
        if path not in declared:
            self.discover()
        return DECLARED.get(self.alias, {}).get(path)

    def discover(self) -> Mapping[str, Any]:
        """All tasks: those of each app's `tasks`, of `OPTIONS["modules"]`, and of what else was imported."""
        autodiscover_modules("tasks")
        for name in self.told.modules:
            importlib.import_module(name)
        return DECLARED.get(self.alias, {})

    # ── checks ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def check(self, **kwargs: Any) -> Iterable[checks.CheckMessage]:
        """What is wrong with its settings, and what one must know of them."""
        yield from super().check(**kwargs)
        where = f"TASKS[{self.alias!r}]"
        try:
            _ = self.client
        except ConfigurationError as error:
            yield checks.Error(f"{where}: {error}", id="trioworkers.E001")
        for queue in sorted(map(str, self.queues)):
            if not is_queue_name(queue):
                text = f"{where}: a queue's name has at most 128 letters, digits or _.:- , not {queue!r}"
                yield checks.Error(text, id="trioworkers.E002")
        if self.told.database not in connections.settings:
            yield checks.Error(f"{where}: there is no database {self.told.database!r}", id="trioworkers.E003")
        if self.told.isolate == "thread":
            yield checks.Info(
                f"{where}: tasks run in threads, which nothing can stop. One that is still running when its worker stops, or after `timeout`, "
                "goes on until the process ends, and is run again elsewhere meanwhile.",
                hint='Make tasks idempotent, or set OPTIONS["isolate"] = "process": then they are killed.',
                id="trioworkers.I001",
            )
