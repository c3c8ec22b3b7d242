"""FleetLimit: how many jobs may run at once over all workers."""

from __future__ import annotations

import re

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
