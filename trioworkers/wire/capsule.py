"""A capsule: queues that share the slots of one worker, in a strict order or by weight. Sidekiq's word, and as its tools read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from trioworkers.printable import shown

MAX_WEIGHT = 1000
MAX_CONCURRENCY = 1_000_000
A_WEIGHT = f"a weight is a whole number from 1 to {MAX_WEIGHT}"
MAX_QUEUES = 1000
"""Each fetch looks at all of them."""


@attrs.frozen
class Capsule:
    """`weights`: each queue's share under full load, in the order in which they were told. `strict`: that order is all that counts."""

    name: str
    concurrency: int
    weights: Mapping[str, int]
    strict: bool = False

    def shown(self) -> dict[str, Any]:
        """What Sidekiq's tools see: a strict one has no weights."""
        if self.strict:
            return {"concurrency": self.concurrency, "mode": "strict", "weights": dict.fromkeys(self.weights, 0)}
        return {"concurrency": self.concurrency, "mode": "weighted", "weights": dict(self.weights)}


def of_one(queue: str, concurrency: int) -> Capsule:
    """A queue that shares with none."""
    return Capsule(queue, concurrency, {queue: 1}, strict=True)


def why_no_concurrency(concurrency: object) -> str:
    """Why so many can't run at once; "" if they can."""
    if not isinstance(concurrency, int) or isinstance(concurrency, bool) or not 0 < concurrency <= MAX_CONCURRENCY:
        return f"concurrency is a whole number from 1 to {MAX_CONCURRENCY}, not {shown(concurrency)}"
    return ""


def why_not(name: object, concurrency: object, queues: object) -> str:
    """Why this can't be a capsule; "" if it can."""
    if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= 128:
        return f"a capsule's name is 1 to 128 printable characters, not {shown(name)}"
    if why := why_no_concurrency(concurrency):
        return why
    if isinstance(queues, str) or not isinstance(queues, Mapping | list | tuple) or not queues:
        return f"queues is a list of names, first things first, or a dict of names and weights, not {shown(queues)}"
    if len(queues) > MAX_QUEUES:
        return f"{len(queues)} queues are too many for one capsule, {MAX_QUEUES} are not"
    return _why_no_weights(queues) if isinstance(queues, Mapping) else _named_twice(queues)


def _named_twice(queues: Sequence[object]) -> str:
    twice = [queue for number, queue in enumerate(queues) if queue in queues[:number]]
    return f"queue {shown(twice[0])} is named twice" if twice else ""


def _why_no_weights(queues: Mapping[object, object]) -> str:
    for queue, weight in queues.items():
        if not isinstance(weight, int) or isinstance(weight, bool) or not 0 < weight <= MAX_WEIGHT:
            return f"queue {shown(queue)}: {A_WEIGHT}, not {shown(weight)}"
    return ""
