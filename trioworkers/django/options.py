"""What `OPTIONS` of the backend may say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
from django.core.exceptions import ImproperlyConfigured

from trioworkers.jobs.telemetry import Telemetry

DAY_S = 86_400.0
MAX_KEEP_S = 30 * DAY_S


def _seconds(least: float, most: float) -> Any:
    def check(_: object, field: attrs.Attribute[float], value: object) -> None:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not least <= value <= most:  # type: ignore[operator]
            raise ValueError(f"{field.name} is a number of seconds from {least:g} to {most:g}, not {value!r}")

    return check


def _count(least: int) -> Any:
    def check(_: object, field: attrs.Attribute[int], value: object) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(f"{field.name} is a whole number from {least} on, not {value!r}")

    return check


def _flag(_: object, field: attrs.Attribute[bool], value: object) -> None:
    if not isinstance(value, bool):
        raise ValueError(  # noqa: TRY004 - as the others
            f"{field.name} is True or False, not {value!r}"
        )


def _as_tuple(value: object) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else value


def _names(_: object, field: attrs.Attribute[tuple[str, ...]], value: object) -> None:
    if not isinstance(value, tuple) or not all(isinstance(name, str) for name in value):
        raise ValueError(f"{field.name} is a list of module names, not {value!r}")


def _telemetry(_: object, field: attrs.Attribute[Any], value: object) -> None:
    if value is not None and not callable(getattr(value, "attempt", None)):
        raise ValueError(f"{field.name} is OpenTelemetry(), of trioworkers.observe.tracing, not {value!r:.80}")


@attrs.frozen
class Options:
    """`url`, `namespace`: as for a client. `retry_for`: likewise.

    `enqueue_on_commit`: a task that is enqueued within a transaction of `database` is sent when that commits, or never. `retry`: how often
    a task that fails is tried again. `keep_results`: for how many seconds after its end. `concurrency`: how many tasks of a queue run at once in a
    worker. `isolate`: "thread", or "process", which can be killed. `timeout`: seconds that an attempt may take. `modules`: where tasks are
    declared beside each app's `tasks`. `telemetry`: traces, `trioworkers.observe.tracing.OpenTelemetry()`.
    """

    url: str | None = None
    namespace: str | None = None
    retry_for: float = attrs.field(default=5.0, validator=_seconds(0, 60))
    enqueue_on_commit: bool = attrs.field(default=True, validator=_flag)
    database: str = "default"
    retry: int = attrs.field(default=0, validator=_count(0))
    keep_results: float = attrs.field(default=DAY_S, validator=_seconds(1, MAX_KEEP_S))
    concurrency: int = attrs.field(default=10, validator=_count(1))
    isolate: str = attrs.field(default="thread", validator=attrs.validators.in_(("thread", "process")))
    timeout: float | None = attrs.field(default=None, validator=attrs.validators.optional(_seconds(0.001, 365 * DAY_S)))
    modules: tuple[str, ...] = attrs.field(default=(), converter=_as_tuple, validator=_names)
    telemetry: Telemetry | None = attrs.field(default=None, validator=_telemetry)


def options_in(alias: str, told: Mapping[str, Any]) -> Options:
    """The options of a backend. Raises ImproperlyConfigured."""
    known = [field.name for field in attrs.fields(Options)]
    for name in told:
        if name not in known:
            raise ImproperlyConfigured(f"TASKS[{alias!r}]: there is no option {name!r}; there are {', '.join(known)}")
    try:
        return Options(**told)
    except (ValueError, TypeError) as error:
        raise ImproperlyConfigured(f"TASKS[{alias!r}]: {error.args[0] if error.args else error}") from None
