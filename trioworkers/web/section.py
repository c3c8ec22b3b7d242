"""Where on a page templates are put: they have it to themselves, or their section of it is beside those of other shards."""

from __future__ import annotations

import attrs

from trioworkers.shards import called


@attrs.frozen
class Section:
    """`shard`: the one whose section it is; None: the page is of nothing else. `level`: of the page's title as a heading; 0: it isn't shown, for it is above all sections."""

    shard: str | None = None
    level: int = 1

    @property
    def element_id(self) -> str:
        """Of the section itself. A tilde is in no shard's name."""
        return f"shard-{self.shard or '~'}"

    def id(self, name: str) -> str:
        """An element's id, which no other section has."""
        return name if self.shard is None else f"{name}-{self.shard or '~'}"

    def labelled_by(self, name: str) -> str:
        """The ids of what an element is called by: another element; and the shard, whose name tells it from its like beside it."""
        return self.id(name) if self.shard is None else f"{self.id(name)} {self.element_id}-title"

    def label(self, text: str) -> str:
        """What an element is called."""
        return text if self.shard is None else f"{text}, {called(self.shard)}"


WHOLE_PAGE = Section()
