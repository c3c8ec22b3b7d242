"""That a job belongs to a batch: the field that names it in a payload, and what a batch is when it is sent. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

import attrs

BATCH_FIELD = "tw_batch"
"""The id of the batch whose member the job is; behind a blank its name there, if it has one."""
MAX_NAME = 64
_FIELD = rf"([A-Za-z0-9_-]{{1,64}})(?: ([^\x00-\x1f\x7f]{{1,{MAX_NAME}}}))?"

OnFailure = Literal["wait", "cancel", "run"]
EVENTS = ("success", "finished", "death")
"""When a batch's callbacks are sent: all members succeeded; all ended, however; the first one is dead."""
MAX_BEFORE = 5_000
"""For how many others a job can wait."""
MAX_DEPTH = 16
"""How deep batches may lie in one another."""


@attrs.frozen
class Opening:
    """A batch that comes into being with its first members. `callbacks`: jobs by event; `parent`: the batch whose member it is, if any.

    `sealed`: no more members are to come from outside, so it is over when these have ended. `abandoned_after_s`: of one that isn't, after how
    many seconds without another member it is cancelled.
    """

    description: str
    callbacks: Mapping[str, Any]
    parent: str | None = None
    sealed: bool = True
    abandoned_after_s: float | None = None


@attrs.frozen
class Membership:
    """Of one job. `name`: by which others in its batch ask for its result. `opening`: of the first member, if the batch comes into being with it.

    `after`: the members that must have ended before it is pushed; `on_failure`: what becomes of it if one of these doesn't succeed.
    """

    batch: str
    name: str = attrs.field(default="", kw_only=True)
    opening: Opening | None = attrs.field(default=None, eq=False, repr=False)
    after: tuple[str, ...] = attrs.field(default=(), eq=False)
    on_failure: OnFailure = attrs.field(default="wait", eq=False)

    @property
    def field(self) -> str:
        """What the payload says of it."""
        return f"{self.batch} {self.name}" if self.name else self.batch


def batch_in(value: object) -> Membership | None:
    """The batch that a payload's field names; None for what is none."""
    found = re.fullmatch(_FIELD, value) if isinstance(value, str) else None
    return None if found is None else Membership(found[1], name=found[2] or "")
