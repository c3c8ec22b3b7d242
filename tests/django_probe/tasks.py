from __future__ import annotations

import asyncio
import os
import subprocess
import time
from pathlib import Path
from typing import Any

from opentelemetry import trace

from django_probe.models import Note
from trioworkers.django import api

if api.BaseTaskBackend.__module__.startswith("django."):
    from django.tasks import task
else:
    from django_tasks import task


@task
def add(a: int, b: int = 1) -> int:
    return a + b


@task
async def add_async(a: int, b: int) -> int:
    await asyncio.sleep(0.01)
    return a + b


@task
def fail(text: str) -> None:
    raise ValueError(text)


@task
def odd() -> object:
    return object()


@task
def exits() -> None:
    raise SystemExit(3)


@task(takes_context=True)
def attempts(context: Any, name: str) -> list[Any]:
    return [name, context.attempt, context.task_result.id, context.task_result.status]


@task
def note(text: str) -> int:
    return Note.objects.create(text=text).id


@task(backend="again", queue_name="again", takes_context=True)
def second_time(context: Any) -> int:
    if context.attempt < 2:
        raise ValueError("not yet")
    return int(context.attempt)


@task(backend="killed", queue_name="killed")
def where() -> list[int]:
    return [os.getpid(), os.getppid(), Note.objects.count()]


@task(backend="killed", queue_name="killed")
def sleep_long(path: str) -> None:
    child = subprocess.Popen(["sleep", "600"])
    Path(path).write_text(f"{os.getpid()} {child.pid}")
    time.sleep(600)


@task(backend="traced", queue_name="traced")
def traced() -> list[str]:
    return [*_here(), tail.enqueue().id]


@task(backend="traced", queue_name="not-served")
def tail() -> None: ...


@task(backend="traced-apart", queue_name="traced-apart")
def traced_apart() -> list[str]:
    return _here()


def _here() -> list[str]:
    found = trace.get_current_span().get_span_context()
    return [trace.format_trace_id(found.trace_id), trace.format_span_id(found.span_id)]
