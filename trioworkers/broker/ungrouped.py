"""One readable error instead of a group with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from trioworkers.errors import TrioworkersError
from trioworkers.failures import leaves


@contextmanager
def ungrouped() -> Iterator[None]:
    """Raises an error of ours by itself when nurseries have wrapped it into groups; of several the first."""
    try:
        yield
    except BaseExceptionGroup as group:
        ours = [leaf for leaf in leaves(group) if isinstance(leaf, TrioworkersError)]
        if ours and all(isinstance(leaf, TrioworkersError | trio.Cancelled) for leaf in leaves(group)):
            raise ours[0] from None
        raise
