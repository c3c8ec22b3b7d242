"""FleetLimit: how many jobs may run at once over all workers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import attrs

from trioworkers.errors import ConfigurationError

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@attrs.frozen
class FleetLimit:
    """At most `concurrency` jobs under the limit called `name` run at once, over all workers; the same name is the same limit everywhere.

    What may not run yet is parked: it takes no slot, no attempt and no polling, and goes on in the order in which it came. A job holds its
    permit exactly as long as its attempt. Of two versions of a limit at once, that of the worker counts which started last. Not to be
    mistaken for `Limit`, which holds back a job's HTTP calls per host and worker. Raises ConfigurationError.
    """

    name: str
    concurrency: int = attrs.field(kw_only=True)

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ConfigurationError(f"a limit's name has at most 64 letters, digits or _.- , not {self.name!r:.80}")
        if not isinstance(self.concurrency, int) or isinstance(self.concurrency, bool) or self.concurrency < 1:
            raise ConfigurationError(
                f"limit {self.name!r}: concurrency is a whole number from 1 on, not {self.concurrency!r:.80}"
            )


Limits = Mapping[str, Sequence[FleetLimit]]
"""What the classes of one queue declare, those that declare anything."""


def checked_limits(where: str, limit: object) -> tuple[FleetLimit, ...]:
    """What a handler gives as `limit=`: nothing, a limit or a list of them. Raises ConfigurationError."""
    limits = () if limit is None else tuple(limit) if isinstance(limit, list | tuple) else (limit,)
    wrong = next((each for each in limits if not isinstance(each, FleetLimit)), None)
    if wrong is not None:
        raise ConfigurationError(f"{where}: limit is a FleetLimit or a list of them, not {wrong!r:.80}")
    if len({each.name for each in limits}) < len(limits):
        raise ConfigurationError(f"{where}: names one limit twice")
    return limits


def concurrency_by_name(queues: Iterable[Limits]) -> dict[str, int]:
    """How many may run at once under each limit that is declared anywhere."""
    return {limit.name: limit.concurrency for limits in queues for each in limits.values() for limit in each}
