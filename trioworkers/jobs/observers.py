"""Who watches a worker: told of it when it starts, and of each attempt and HTTP call when it has ended. A worker without observers has nothing of it in its way."""

from __future__ import annotations

from typing import Any, Protocol


class Observer(Protocol):
    """In the worker's event loop; must return at once. What it raises is logged, and no job's trouble."""

    def started(self, worker: Any, link: Any) -> None:
        """A worker is about to run; `link`: what it knows of its Redis."""

    def ended(self, delivery: Any, outcome: Any) -> None:
        """An attempt has ended, and this outcome is decided."""

    def called(self, host: str, outcome: str) -> None:
        """An HTTP call has ended: with a class of status (`2xx`), or the name of an error."""
