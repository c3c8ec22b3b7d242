"""What is kept of a task: from records in Redis to Django's TaskResult, and back."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.utils import timezone

from trioworkers.django.api import TaskError, TaskResult, TaskResultStatus
from trioworkers.wire.ended import Ended, value_of
from trioworkers.wire.task_record import TaskRecord


def moment(epoch_s: float | None) -> datetime | None:
    """A moment as Django has it: naive in its own zone if it does without zones."""
    if epoch_s is None:
        return None
    aware = datetime.fromtimestamp(epoch_s, UTC)
    return aware if settings.USE_TZ else timezone.make_naive(aware)


def result_of(task: Any, backend: str, jid: str, record: TaskRecord, ended: Ended | None) -> Any:
    """What Django shows. That a task has ended is what `ended` says alone: the record is written before its end is certain."""
    status = TaskResultStatus.RUNNING if record.running else TaskResultStatus.READY
    if ended is not None:
        status = TaskResultStatus.SUCCESSFUL if ended.how == "succeeded" else TaskResultStatus.FAILED
    elif record.finished_at is not None:
        status = TaskResultStatus.RUNNING  # its outcome is just being written
    result = TaskResult(
        task=task,
        id=jid,
        status=status,
        enqueued_at=moment(record.enqueued_at),
        started_at=moment(record.started_at),
        last_attempted_at=moment(record.last_attempted_at),
        finished_at=None if ended is None else moment(record.finished_at or record.last_attempted_at),
        args=record.args,
        kwargs=record.kwargs,
        backend=backend,
        errors=[*_errors(record), *_last_error(record, ended)],
        worker_ids=list(record.workers),
    )
    if ended is not None and ended.how == "succeeded":
        object.__setattr__(result, "_return_value", value_of(ended))
    return result


def _errors(record: TaskRecord) -> list[Any]:
    return [TaskError(exception_class_path=each.path, traceback=each.traceback) for each in record.failures]


def _last_error(record: TaskRecord, ended: Ended | None) -> list[Any]:
    """How it ended, if that is no failure of the task's own: its workers died, it took too long, somebody deleted it."""
    if ended is None or ended.how == "succeeded":
        return []
    if ended.how not in ("dead", "discarded"):
        return [TaskError(exception_class_path="trioworkers.JobGone", traceback=f"it was {ended.how}")]
    last = record.failures[-1].path if record.failures else ""
    if record.finished_at is not None and (
        ended.how == "discarded" or _name(last) == _name(ended.error_class) or not ended.error_class
    ):
        return []
    path = ended.error_class if "." in ended.error_class else f"builtins.{ended.error_class or 'Exception'}"
    return [TaskError(exception_class_path=path, traceback=f"{ended.error_class}: {ended.error_message}")]


def _name(path: str) -> str:
    return path.rpartition(".")[2]
