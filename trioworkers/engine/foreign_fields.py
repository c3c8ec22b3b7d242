"""Fields of a payload that only middleware of other programs honours: a lock, a batch, an expiry, an encrypted argument.

Jobs that carry them run here as if they didn't, and what was promised with them doesn't happen. That is said once for each class that the app declares; only
where the handler would certainly be given what it can't use, the job isn't run. The list is in `docs/interop.md`, too.
"""

from __future__ import annotations

import logging

from trioworkers.errors import Bury
from trioworkers.wire.job import Job
from trioworkers.wire.numbers import epoch_s
from trioworkers.wire.wrappers import is_encrypted

logger = logging.getLogger("trioworkers")

_LOCKED = "the lock that Ruby's client took for it stays until it lapses or Ruby's reaper finds it"
CONSEQUENCES = {
    "lock_digest": _LOCKED,
    "unique_digest": _LOCKED,
    "unique_for": _LOCKED,
    "bid": "its batch in Ruby doesn't hear of it, and never ends",
    "expiry": "it had expired, and Sidekiq Pro would have skipped it",
}


class ForeignFields:
    """One worker's eye on them."""

    def __init__(self) -> None:
        self._said: set[tuple[object, str]] = set()

    def check(self, job: Job, handler: object, now_s: float) -> None:
        """Say what a job with such fields can't have here. Raises Bury if it can't be run. `handler`: its own; `now_s`: epoch seconds.

        Names of classes come from outside: a handler of any class is given as many as a stranger can make up, so it is by handlers that it is said once.
        """
        if is_encrypted(job.extra):
            raise Bury(
                "its last argument was encrypted by Sidekiq Enterprise (`encrypt`), which only Ruby can undo: not run"
            )
        for name in sorted(job.extra.keys() & CONSEQUENCES.keys()):
            value = job.extra[name]
            if value is None or value is False:
                continue
            if name == "expiry" and not _is_past(value, now_s):
                continue
            self._say(job, handler, name)

    def _say(self, job: Job, handler: object, name: str) -> None:
        if (handler, name) in self._said:
            return
        self._said.add((handler, name))
        logger.warning(
            "%s on %s comes with %s, which only Ruby's middleware obeys; the job runs all the same: %s (said once per class)",
            job.job_class,
            job.queue,
            name,
            CONSEQUENCES[name],
        )


def _is_past(value: object, now_s: float) -> bool:
    at_s = epoch_s(value)
    return at_s is not None and at_s < now_s
