"""Backend for Django's Tasks: `TASKS = {"default": {"BACKEND": "trioworkers.django.TasksBackend"}}`, and `manage.py trioworkers`.

Django 6.0 and newer have Tasks of their own; older ones have them by `pip install django-tasks`. Names are looked up when first used, since Django
imports this while it starts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trioworkers.django.backend import TasksBackend as TasksBackend

__all__ = ["TasksBackend"]


def __getattr__(name: str) -> Any:
    if name != "TasksBackend":
        raise AttributeError(f"module 'trioworkers.django' has no attribute {name!r}")
    from trioworkers.django.backend import TasksBackend  # noqa: PLC0415 - not before Django has started

    return TasksBackend
