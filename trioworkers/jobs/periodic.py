"""What `@app.periodic(…)` declares: when a handler's job is due. Checked where it stands."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import attrs

from trioworkers.errors import BadJob, ConfigurationError
from trioworkers.jobs.handler import AnyHandler, Handler
from trioworkers.sending import Sending
from trioworkers.wire.job import Job
from trioworkers.wire.periodic import Periodic, encode_entry, entry_name, is_own_name

F = TypeVar("F")


@attrs.frozen
class Declared:
    """One `@app.periodic(…)` around a handler."""

    handler: AnyHandler
    options: Mapping[str, Any]
    args: Sequence[Any]
    name: str

    def entry(self, dialect: str = "") -> Periodic:
        """What Redis is told. `dialect`: what the handler's queue speaks. Raises BadJob for arguments that the handler doesn't take."""
        name = entry_name(self.handler.queue, self.handler.job_class, self.name)
        return Periodic(name, job=self.handler.job(*self.args), dialect=dialect, **self.options)


def declared(
    where: str,
    handler: object,
    expression: str,
    args: Sequence[Any],
    name: str | None,
    known: Sequence[Declared],
    **options: Any,
) -> Declared:
    """Check it. `where`: the line on which it stands. Raises ConfigurationError."""
    if not isinstance(handler, Handler):
        raise ConfigurationError(f"{where}: @app.periodic(…) stands above @app.handler(…), around what that makes")
    if isinstance(args, str | bytes) or not isinstance(args, Sequence):
        raise ConfigurationError(f"{where}: args is a list of arguments, not {args!r:.80}")
    if name is not None and not is_own_name(name):
        raise ConfigurationError(f"{where}: a name has at most 128 letters, digits or _.:- , not {name!r:.80}")
    made = Declared(handler, {"expression": expression, **options}, tuple(args), name or "")
    try:
        entry = made.entry()
        encode_entry(entry)
    except (ValueError, TypeError, BadJob) as error:
        raise ConfigurationError(f"{where}: {error}") from None
    if any(each.entry().name == entry.name for each in known):
        raise ConfigurationError(
            f"{where}: {handler.where} is periodic as {name!r} already"
            if name
            else f"{where}: {handler.where} is periodic already; a second time it needs name="
        )
    return made


def named_entry(sending: Sending, name: str, expression: str, job: Job, now_s: float, **options: Any) -> Periodic:
    """An entry that lives in Redis only, as a client was told. Raises ConfigurationError, BadJob."""
    if not is_own_name(name):
        raise ConfigurationError(f"a periodic job's name has at most 128 letters, digits or _.:- , not {name!r:.80}")
    dialect, keys = sending.spoken_on(job.queue)
    entry = Periodic(name, expression, job, dialect=keys.tag, **options)
    try:
        encode_entry(entry)
    except ValueError as error:
        raise ConfigurationError(f"periodic job {name}: {error}") from None
    sending.guard.check(job, dialect.encode(job, now_s))
    return entry


def caller() -> str:
    """The line on which our caller's caller stands, for errors."""
    frame = sys._getframe(2)  # noqa: SLF001 - there is no other way to know it
    return f"periodic ({frame.f_code.co_filename}:{frame.f_lineno})"


class Register:
    """What `app.periodic(…)` returns: it gives back the handler that it was put around."""

    def __init__(self, register: Callable[[object], None]) -> None:
        self._register = register

    def __call__(self, handler: F) -> F:
        """Register `handler`."""
        self._register(handler)
        return handler
