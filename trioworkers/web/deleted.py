"""What a button has deleted, for undoing it."""

from __future__ import annotations

from collections.abc import Callable

from trioworkers.broker.people.operator_actions import Next
from trioworkers.wire.entry import Entry

UNDO_BYTES = 4_000_000
"""So much of what was deleted is remembered; of more nothing is, for half an undoing would be none."""


class Deleted:
    """What a sweep has deleted, page by page, as long as all of that is known and not too much."""

    def __init__(self, decide: Callable[[Entry], Next | None]) -> None:
        self._decide = decide
        self._page: list[Entry] = []
        self._bytes = 0
        self._is_known = True
        self._entries: list[Entry] = []

    def decide(self, entry: Entry) -> Next | None:
        """As it was told, and remembered."""
        to = self._decide(entry)
        if to is not None:
            self._page.append(entry)
        return to

    def end_page(self, moved: int) -> None:
        """So many of a page were deleted. If that are not all that were meant, nobody knows which: others had them first."""
        page, self._page = self._page, []
        self._bytes += sum(len(entry.payload) for entry in page)
        self._is_known = self._is_known and moved == len(page) and self._bytes < UNDO_BYTES
        self._entries = [*self._entries, *page] if self._is_known else []

    def known(self) -> list[Entry]:
        """All of it; nothing if it was stopped within a page."""
        return [] if self._page else self._entries
