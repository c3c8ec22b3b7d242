"""What a handler says of its attempts, and of the jobs that it builds: the options of `@app.handler(…)`, checked where they stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from trioworkers.errors import ConfigurationError
from trioworkers.jobs.limits import FleetLimit
from trioworkers.jobs.unique import AnyUnique
from trioworkers.seconds import MAX_SECONDS
from trioworkers.wire.lifetime import MAX_EXPIRES_S, MAX_KEPT_S, checked_seconds
from trioworkers.wire.log_lines import MAX_LINES
from trioworkers.wire.options import check_option
from trioworkers.wire.reported import MAX_FINISHED


@attrs.frozen
class HandlerOptions:
    """What was said. `retry`: for jobs that say nothing of it themselves; `check`: look at the types of what its jobs are built with.

    `carried`: what its jobs carry, by the names of `Job`'s fields.
    """

    timeout_s: float | None = None
    check: bool = True
    retry: bool | int | None = None
    carried: Mapping[str, Any] = attrs.field(factory=dict)
    limits: Sequence[FleetLimit] = ()
    unique: AnyUnique | None = None
    keep_finished: int | None = None
    keep_log: int | None = None


_OF_ITS_JOBS_ALONE = ("retry_for", "retry_queue", "backtrace", "dead", "tags")


def check_carried(where: str, options: HandlerOptions) -> None:
    """What a handler that builds no jobs may not say, as nobody would obey it. Raises ConfigurationError, which `where` begins."""
    lost = [name for name in options.carried if name in _OF_ITS_JOBS_ALONE] + ["check"] * (not options.check)
    if lost:
        raise ConfigurationError(f"{where}: {lost[0]} is for a handler's own jobs, and one of every class builds none")


def checked_finished(where: str, count: object, *, is_of_every_class: bool) -> int | None:
    """`keep_finished`. Raises ConfigurationError, which `where` begins."""
    if count is None:
        return None
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MAX_FINISHED:
        raise ConfigurationError(f"{where}: keep_finished is a number from 1 to {MAX_FINISHED:,}, not {count!r:.80}")
    if is_of_every_class:
        raise ConfigurationError(
            f"{where}: keep_finished is kept for a class, and one of every class would keep it for any"
        )
    return count


def checked_log(where: str, count: object) -> int | None:
    """`keep_log`. Raises ConfigurationError, which `where` begins."""
    if count is None:
        return None
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MAX_LINES:
        raise ConfigurationError(f"{where}: keep_log is a number from 1 to {MAX_LINES:,}, not {count!r:.80}")
    return count


def checked(where: str, timeout: object, check: object, carried: Mapping[str, Any]) -> HandlerOptions:
    """The options, as they were given (None: not said). Raises ConfigurationError, which `where` begins."""
    said = {name: value for name, value in carried.items() if value is not None}
    if not isinstance(check, bool):
        raise ConfigurationError(f"{where}: check is True or False, not {check!r:.80}")
    try:
        timeout_s = None if timeout is None else checked_seconds("timeout", timeout, MAX_SECONDS)
        for name, value in said.items():
            _check(name, value)
    except ValueError as error:
        raise ConfigurationError(f"{where}: {error}") from None
    if "tags" in said:
        said["tags"] = tuple(said["tags"])
    return HandlerOptions(timeout_s, check, said.get("retry"), said)


def _check(name: str, value: Any) -> None:
    if name == "expires_in":
        checked_seconds(name, value, MAX_EXPIRES_S)
    elif name == "keep_result":
        checked_seconds(name, value, MAX_KEPT_S)
    else:
        check_option(name, value)
