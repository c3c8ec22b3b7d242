"""Unique, Debounce, Throttle: of which jobs of a class there shall be one, and what becomes of the others. Values for `@app.handler(unique=…)`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

import attrs

from trioworkers.errors import BadArguments, BadJob, ConfigurationError
from trioworkers.jobs.signature import Parameter, Signature
from trioworkers.seconds import MAX_SECONDS
from trioworkers.wire.job import Job
from trioworkers.wire.lifetime import checked_seconds
from trioworkers.wire.lock import Lock
from trioworkers.wire.lock_key import key_of

By = str | tuple[str, ...]
OnConflict = Literal["skip", "raise", "replace", "latest"]


@attrs.frozen
class Unique:
    """At most one job of the class with these arguments waits or runs. It takes a lock when it is sent.

    - `by`: the parameters that tell jobs apart, one name or several. Default: all.
    - `until`: how long the job has the lock. "done": until it ends for good, in any way. "started": until its first attempt starts.
    - `on_conflict`: what happens if another job has the lock. "skip": the new job isn't sent; `Sent.duplicate_of` names the other one. "raise": DuplicateJob
      (not for jobs that send jobs). "replace": the job that waits gets the arguments of the new one, and keeps its place. "latest": the same; if the other
      job runs already, the newest follows it.

    Raises ConfigurationError.
    """

    by: By | None = None
    until: Literal["done", "started"] = "done"
    on_conflict: OnConflict = "skip"

    def __attrs_post_init__(self) -> None:
        _check_by(self.by)
        if self.until not in ("done", "started"):
            raise ConfigurationError(f"Unique: until is 'done' or 'started', not {self.until!r:.80}")
        if self.on_conflict not in get_args(OnConflict):
            known = ", ".join(map(repr, get_args(OnConflict)))
            raise ConfigurationError(f"Unique: on_conflict is one of {known}, not {self.on_conflict!r:.80}")

    def lock(self, key: str) -> Lock:
        """The lock of a job with this key."""
        return Lock(key, self.until, self.on_conflict)


@attrs.frozen
class Debounce:
    """Jobs with the same arguments become one job. It runs `wait` seconds after the last of them was sent, with the arguments of the last one.

    `max_wait`: it runs at most so many seconds after the first was sent. Default: no bound. `by`: as for `Unique`. Raises ConfigurationError.
    """

    by: By | None = None
    wait: float = attrs.field(kw_only=True)
    max_wait: float | None = attrs.field(default=None, kw_only=True)

    def __attrs_post_init__(self) -> None:
        _check_by(self.by)
        _check_seconds("Debounce", "wait", self.wait)
        if self.max_wait is not None:
            _check_seconds("Debounce", "max_wait", self.max_wait)
            if self.max_wait < self.wait:
                raise ConfigurationError(f"Debounce: max_wait={self.max_wait:g} is shorter than wait={self.wait:g}")

    def lock(self, key: str) -> Lock:
        """The lock of a job with this key."""
        max_wait_s = MAX_SECONDS if self.max_wait is None else float(self.max_wait)
        return Lock(key, "done", "debounce", wait_s=float(self.wait), max_wait_s=max_wait_s)


@attrs.frozen
class Throttle:
    """Only the first of the jobs with the same arguments is sent in `every` seconds, however it ends. `by`: as for `Unique`.

    Raises ConfigurationError.
    """

    by: By | None = None
    every: float = attrs.field(kw_only=True)

    def __attrs_post_init__(self) -> None:
        _check_by(self.by)
        _check_seconds("Throttle", "every", self.every)

    def lock(self, key: str) -> Lock:
        """The lock of a job with this key."""
        return Lock(key, "spell", "throttle", every_s=float(self.every))


AnyUnique = Unique | Debounce | Throttle


def checked_unique(where: str, unique: object) -> AnyUnique | None:
    """What a handler gives as `unique=`. Raises ConfigurationError."""
    if unique is None or isinstance(unique, Unique | Debounce | Throttle):
        return unique
    raise ConfigurationError(f"{where}: unique is Unique(…), Debounce(…) or Throttle(…), not {unique!r:.80}")


@attrs.frozen
class UniqueClass:
    """What a handler's jobs are unique by: `said`, read over what its function takes."""

    said: AnyUnique
    taken: Signature
    names: tuple[str, ...] | None
    defaults: Mapping[str, tuple[Parameter, Any]]
    """Of what need not be given, in JSON's types."""

    def lock(self, job_class: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Lock:
        """The lock of a job with these arguments, in JSON's types. Raises BadArguments, which names the argument that can't be keyed."""
        given = self._given(job_class, args, kwargs)
        wanted = sorted(given) if self.names is None else self.names  # by position or by name, it is the same
        values = []
        for name in wanted:
            if name not in given:
                raise BadArguments(f"{job_class}: argument {name}, by which it is unique, is missing")
            values.append(_canonical(job_class, name, *given[name]))
        if self.names is None:
            values = [[name, value] for name, value in zip(wanted, values, strict=True)]
        try:
            return self.said.lock(key_of(job_class, values))
        except ValueError as error:
            raise BadArguments(
                f"{job_class}: {_called(wanted)}, by which it is unique, can't be keyed: {error}"
            ) from None

    def lock_of(self, job: Job) -> Lock:
        """The lock of a job that came without one. Raises BadArguments."""
        return self.lock(job.job_class, job.args, job.kwargs)

    def _given(
        self, job_class: str, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> dict[str, tuple[Parameter, Any]]:
        """By parameter the argument, given or default; what `*` and `**` take under names that no parameter has."""
        taken = self.taken
        given: dict[str, tuple[Parameter, Any]] = {}
        for place, value in enumerate(args):
            if place < len(taken.positional):
                given[taken.positional[place].name] = (taken.positional[place], value)
            elif taken.rest is not None:
                given[f"*{place}"] = (taken.rest, value)
            else:
                raise BadArguments(f"{job_class}: expected at most {len(taken.positional)} arguments, got {len(args)}")
        for name, value in kwargs.items():
            if not taken.takes(name):
                raise BadArguments(f"{job_class}: unexpected keyword argument {name:.80}")
            given[name] = (taken.called(name), value)
        for name, (parameter, value) in self.defaults.items():
            given.setdefault(name, (parameter, value))
        return given


def bound_unique(
    where: str, said: AnyUnique | None, function: Callable[..., object], taken: Signature
) -> UniqueClass | None:
    """What a handler's jobs are unique by. Raises ConfigurationError for an argument that it hasn't."""
    if said is None:
        return None
    names = (said.by,) if isinstance(said.by, str) else said.by
    known = [each.name for each in (*taken.positional, *taken.keyword_only.values())]
    for name in names or ():
        if name not in known:
            raise ConfigurationError(
                f"{where}: unique by {name!r}, which is no argument of it; known: {', '.join(known) or 'none'}"
            )
    return UniqueClass(said, taken, names, dict(_defaults(where, function, taken)))


def _defaults(
    where: str, function: Callable[..., object], taken: Signature
) -> Iterator[tuple[str, tuple[Parameter, Any]]]:
    for name, found in inspect.signature(function).parameters.items():
        parameter = next(
            (each for each in (*taken.positional, *taken.keyword_only.values()) if each.name == name), None
        )
        if parameter is not None and not parameter.required:
            try:
                yield name, (parameter, parameter.conversion.write(found.default))
            except (ValueError, BadJob) as error:
                raise ConfigurationError(
                    f"{where}: unique, and the default of {name!r} can't be keyed: {error}"
                ) from None


def _canonical(job_class: str, name: str, parameter: Parameter, value: Any) -> Any:
    """An argument in JSON's types, spelled in one way: as its parameter reads it, for `1.0` and a time may come in several."""
    if type(value) is parameter.annotation and isinstance(value, str | int):  # most
        return value
    try:
        read = value if parameter.annotation is Any else parameter.conversion.read(value)
        written = parameter.conversion.write(read)
    except (ValueError, BadJob) as error:
        raise BadArguments(f"{job_class}: argument {name}, by which it is unique, can't be keyed: {error}") from None
    return sorted(written, key=repr) if isinstance(read, set | frozenset) else written


def _called(names: Sequence[str]) -> str:
    return f"argument {names[0]}" if len(names) == 1 else f"arguments {', '.join(names)}"


def _check_by(by: object) -> None:
    names = (by,) if isinstance(by, str) else by
    if by is None or (isinstance(names, tuple) and names and all(isinstance(name, str) and name for name in names)):
        return
    raise ConfigurationError(f"by= is the name of an argument, or a tuple of such, not {by!r:.80}")


def _check_seconds(what: str, name: str, value: object) -> None:
    try:
        checked_seconds(name, value, MAX_SECONDS)
    except ValueError as error:
        raise ConfigurationError(f"{what}: {error}") from None
