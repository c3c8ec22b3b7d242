"""What `"trioworkers.django"` in INSTALLED_APPS is."""

from __future__ import annotations

from django.apps import AppConfig


class TrioworkersConfig(AppConfig):  # type: ignore[misc]  # Django has no types
    """Brings `manage.py trioworkers`. There are no models."""

    name = "trioworkers.django"
    label = "trioworkers"
    verbose_name = "trioworkers"

    def ready(self) -> None:
        """Have Django know of its Tasks, whose checks ask the backends: else it does so only once a task was imported."""
        from trioworkers.django import api  # noqa: F401, PLC0415 - not before apps are there
