"""Where running jobs are: the call stack of a job's task and of the tasks in its nurseries, as text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import trio

from trioworkers.engine.delivery import Delivery
from trioworkers.printable import on_one_line
from trioworkers.stacks import calls_of

_OURS = ("/trioworkers/engine/", f"{Path(trio.__file__).parent}/")
"""Not shown: a task inside trio.sleep is named so, and who awaits it shows the line."""


def describe(delivery: Delivery) -> str:
    """A job's class, jid, queue and age, and below it, indented, where it and its child tasks await."""
    age_s = trio.current_time() - delivery.started_at
    head = f"{delivery.job_class or '(not decoded)'} jid={delivery.jid} queue={delivery.queue} age={age_s:.1f}s"
    return "\n".join(map(on_one_line, [head, *(_tree(delivery.task, "  ") if delivery.task is not None else ())]))


def where(task: trio.lowlevel.Task) -> str:
    """Where in the program's own code a task awaits, as `file.py:7, in function`; "" if nowhere there."""
    theirs = [frame for frame in _frames(task.coro) if not any(part in frame.f_code.co_filename for part in _OURS)]
    if not theirs:
        return ""
    last = theirs[-1]
    return f"{Path(last.f_code.co_filename).name}:{last.f_lineno}, in {last.f_code.co_name}"


def _tree(task: trio.lowlevel.Task, indent: str) -> Iterator[str]:
    stack = [frame for frame in _frames(task.coro) if not any(part in frame.f_code.co_filename for part in _OURS)]
    for line in calls_of(stack).format():
        for part in line.rstrip().split("\n"):
            yield indent + part.strip()
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            yield f"{indent}└ {child.name}"
            yield from _tree(child, indent + "    ")


def _frames(coroutine: Any) -> Iterator[FrameType]:
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is None:
            return
        yield frame
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
