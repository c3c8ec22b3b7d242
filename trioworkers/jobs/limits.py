"""FleetLimit: how many jobs may run at once, and how often one may start, over all workers."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs

from trioworkers.errors import BadArguments, ConfigurationError
from trioworkers.wire.argument_key import argument_key
from trioworkers.wire.job import Job
from trioworkers.wire.limit_spec import LimitSpec, interval_s, queue_limit_name

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
MAX_COUNT = 1_000_000_000


@attrs.frozen
class FleetLimit:
    """A limit for jobs over all workers: at most `concurrency` run at once, at most `rate` start. Give one of the two, or both.

    - `name`: the same name is the same limit everywhere. The limit of a queue (`app.queue(…, limit=…)`) needs no name.
    - `rate`: like "100/s", "20/m", "5/10s", "1000/h". Starts are evenly spaced.
    - `burst`: how many may start at once after a quiet time.
    - `by`: the name of a parameter of the handler. Then the numbers hold for each value of that argument.

    A job that may not run yet is parked. It takes no slot, and no attempt is counted. Parked jobs start in the order in which they came. A job has its
    permit exactly as long as its attempt runs. A start counts however the attempt ends. If workers declare different numbers, the worker that started last decides.
    A `Limit` is something else: it bounds the HTTP calls of one worker to a host. Raises ConfigurationError.
    """

    name: str = ""
    concurrency: int | None = attrs.field(default=None, kw_only=True)
    rate: str | None = attrs.field(default=None, kw_only=True)
    burst: int = attrs.field(default=1, kw_only=True)
    by: str | None = attrs.field(default=None, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name or "-"):
            raise ConfigurationError(f"a limit's name has at most 64 letters, digits or _.- , not {self.name!r:.80}")
        if self.concurrency is None and self.rate is None:
            raise ConfigurationError(f"limit {self.name!r} limits nothing: it needs concurrency= or rate=")
        if self.concurrency is not None:
            self._check_count("concurrency", self.concurrency)
        self._check_count("burst", self.burst)
        if self.burst > 1 and self.rate is None:
            raise ConfigurationError(f"limit {self.name!r}: burst needs a rate")
        if self.by is not None and not (isinstance(self.by, str) and self.by.isidentifier()):
            raise ConfigurationError(f"limit {self.name!r}: by is the name of a parameter, not {self.by!r:.80}")
        self.spec  # noqa: B018 - raises for a rate that is none

    def _check_count(self, what: str, count: object) -> None:
        if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MAX_COUNT:
            raise ConfigurationError(
                f"limit {self.name!r}: {what} is a whole number from 1 to {MAX_COUNT:,}, not {count!r:.80}"
            )

    @property
    def spec(self) -> LimitSpec:
        """Its numbers as Redis keeps them."""
        try:
            between_s = 0.0 if self.rate is None else interval_s(self.rate)
        except ValueError as error:
            raise ConfigurationError(f"limit {self.name!r}: {error}") from None
        return LimitSpec(self.concurrency or 0, between_s, self.burst)


@attrs.frozen
class ClassLimit:
    """A limit as a handler's jobs are under it. `place`: of the argument that it goes by; `default`: what that is if it isn't given."""

    limit: FleetLimit
    place: int | None = None
    default: Any = inspect.Parameter.empty

    def name_for(self, job: Job) -> str:
        """The name of that one limit which `job` is under. Raises BadArguments, which names the argument, if its value is no key."""
        limit = self.limit
        if limit.by is None:
            return limit.name
        try:
            return f"{limit.name}:{argument_key(self._value(job))}"
        except ValueError as error:
            raise BadArguments(
                f"{job.job_class}: argument {limit.by}, by which limit {limit.name!r} goes: {error}"
            ) from None

    def _value(self, job: Job) -> Any:
        if job.kwargs and self.limit.by is not None and self.limit.by in job.kwargs:
            return job.kwargs[self.limit.by]
        if self.place is not None and self.place < len(job.args):
            return job.args[self.place]
        if self.default is inspect.Parameter.empty:
            raise ValueError("it is missing")
        return self.default


Limits = Mapping[str, Sequence[ClassLimit]]
"""What the classes of one queue declare, those that declare anything."""


def checked_limits(where: str, limit: object) -> tuple[FleetLimit, ...]:
    """What a handler gives as `limit=`: nothing, a limit or a list of them. Raises ConfigurationError."""
    limits = () if limit is None else tuple(limit) if isinstance(limit, list | tuple) else (limit,)
    for each in limits:
        if not isinstance(each, FleetLimit):
            raise ConfigurationError(f"{where}: limit is a FleetLimit or a list of them, not {each!r:.80}")
    if any(not each.name for each in limits):
        raise ConfigurationError(f"{where}: a limit of a class has a name: FleetLimit('crm', …)")
    if len({each.name for each in limits}) < len(limits):
        raise ConfigurationError(f"{where}: names one limit twice")
    return limits


def bound_limits(
    where: str, limits: Iterable[FleetLimit], function: Callable[..., Any], context: str | None
) -> tuple[ClassLimit, ...]:
    """The limits of a handler whose function has the argument that each goes by. `context`: its parameter that is no argument. Raises ConfigurationError."""
    return tuple(_bound(where, each, function, context) for each in limits)


def _bound(where: str, limit: FleetLimit, function: Callable[..., Any], context: str | None) -> ClassLimit:
    if limit.by is None:
        return ClassLimit(limit)
    kinds = inspect.Parameter
    taken = [p for p in inspect.signature(function).parameters.values() if p.name != context]
    single = [p for p in taken if p.kind not in (kinds.VAR_POSITIONAL, kinds.VAR_KEYWORD)]
    found = next((p for p in single if p.name == limit.by), None)
    if found is None:
        known = ", ".join(p.name for p in single) or "none"
        raise ConfigurationError(
            f"{where}: limit {limit.name!r} goes by {limit.by!r}, which is no parameter of it; there are: {known}"
        )
    place = None if found.kind is kinds.KEYWORD_ONLY else taken.index(found)
    return ClassLimit(limit, place, found.default)


def checked_queue_limit(queue: str, limit: object) -> FleetLimit | None:
    """What a queue gives as `limit=`, with the queue's name if it has none. Raises ConfigurationError."""
    if limit is None:
        return None
    if not isinstance(limit, FleetLimit):
        raise ConfigurationError(f"queue {queue!r}: limit is a FleetLimit, not {limit!r:.80}")
    if limit.by is not None:
        raise ConfigurationError(f"queue {queue!r}: its limit can't have by=: jobs that wait in a queue aren't read")
    return limit if limit.name else attrs.evolve(limit, name=queue)


def declared_specs(queues: Iterable[Limits], queue_limits: Iterable[FleetLimit] = ()) -> dict[str, LimitSpec]:
    """The numbers of each limit that is declared, by any class or for a queue."""
    found = {each.limit.name: each.limit.spec for limits in queues for of_class in limits.values() for each in of_class}
    return found | {queue_limit_name(limit.name): limit.spec for limit in queue_limits}
