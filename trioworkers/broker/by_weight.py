"""What goes to Redis in groups that are neither too many nor too heavy: it serves nobody else meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
AT_MOST = 1000


def by_weight(items: Iterable[T], weight: Callable[[T], int], most_bytes: int) -> Iterator[list[T]]:
    """In groups of up to so many bytes, in order; what is heavier goes by itself."""
    group: list[T] = []
    size = 0
    for item in items:
        its = weight(item)
        if group and (size + its > most_bytes or len(group) == AT_MOST):
            yield group
            group, size = [], 0
        group.append(item)
        size += its
    if group:
        yield group
