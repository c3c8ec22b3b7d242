"""How far a job's fan-outs are: which calls need not be made again, in this attempt or a later one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import trio

from trioworkers.errors import CallFailed
from trioworkers.wire.job import FAILED_FIELD, PROGRESS_FIELD, Job


def _saved_with_the_outcome() -> trio.Event:
    saved = trio.Event()
    saved.set()
    return saved


@attrs.define(eq=False)
class Progress:
    """How far a job's fan-outs are, over all attempts: names done, and names failed for good with their reasons."""

    done: list[str] = attrs.field(factory=list)
    failed: dict[str, str] = attrs.field(factory=dict)
    used: set[str] = attrs.field(factory=set)
    changed: bool = False
    save: Callable[[], trio.Event] = _saved_with_the_outcome
    _done: set[str] = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._done = set(self.done)

    @classmethod
    def of(cls, job: Job, save: Callable[[], trio.Event]) -> Progress:
        """What the payload brought from earlier attempts. `save`: hands in a checkpoint, tells when it is written."""
        return cls(list(job.progress), dict(job.failed_calls), save=save)

    def fields(self) -> dict[str, Any]:
        """The payload's fields for the next attempt; none, so that the payload stays as it is, without news."""
        if not self.changed:
            return {}
        return {PROGRESS_FIELD: self.done or None, FAILED_FIELD: self.failed or None}

    def finished(self, name: str) -> bool:
        """A call is done. Whether that is news."""
        if name in self._done:
            return False
        self._done.add(name)
        self.done.append(name)
        self.changed = True
        return True

    def is_done(self, name: str) -> bool:
        """Whether a call is done, in this attempt or an earlier one."""
        return name in self._done

    def gave_up(self, failure: CallFailed) -> None:
        """A call failed for good."""
        reason = str(
            failure.reason
        )  # whatever a service or a handler wrote there: it has to have a form in the payload
        self.failed[failure.name] = reason.encode(errors="replace").decode()
        self.changed = True
