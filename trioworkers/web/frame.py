"""What is around every page: the menu, which Redis it is of, and of several shards which one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import attrs

from trioworkers.shards import called
from trioworkers.web.guard import Visitor
from trioworkers.web.http import Request, address
from trioworkers.web.operations import Operation
from trioworkers.web.pages import MENU
from trioworkers.web.rendering import render

OF_ONE_SHARD = frozenset({"/job", "/payload", "/batch", "/outbox"})
"""What such a page shows is in one shard: from there one gets to the others' first pages."""


def below(shard: str) -> str:
    """Where a shard's own pages are, below the root of all. A tilde is in no shard's name, and keeps browsers from taking dots for directories."""
    return f"/shards/~{shard}"


@attrs.frozen
class Link:
    """To a page."""

    title: str
    url: str
    is_current: bool


@attrs.frozen
class Done:
    """What a button began. `shard`: in which, where it isn't clear from the page; `root`: where that one's own buttons are."""

    operation: Operation
    shard: str
    root: str

    def url(self, path: str) -> str:
        """An address below that."""
        return address(self.root, path)


@attrs.frozen
class Shards:
    """Those that one dashboard shows. `here`: the one whose page it is; None: all."""

    names: Sequence[str]
    here: str | None = None

    def links(self, request: Request) -> list[Link]:
        """From a page to the same page of the others, and of all."""
        top = request.root if self.here is None else request.root.removesuffix(below(self.here))
        tail = "/" if request.path in OF_ONE_SHARD else request.here
        return [
            Link("All shards", f"{top}{tail}", self.here is None),
            *(Link(called(name), f"{top}{below(name)}{tail}", self.here == name) for name in self.names),
        ]


def frame(
    title: str,
    request: Request,
    visitor: Visitor,
    *,
    where: str,
    shards: Shards | None = None,
    done: Sequence[Done] = (),
    live_s: int | None = None,
) -> tuple[str, str]:
    """What is before a page, and after it. `where`: of which Redis it is; `live_s`: how often a page asks that stays up to date."""
    values = {
        "title": title,
        "live_s": live_s,
        "menu": MENU,
        "path": request.path,
        "url": partial(address, request.root),
        "where": where,
        "shards": () if shards is None else shards.links(request),
        "visitor": visitor,
        "done": done,
        "here": request.here,
    }
    head, _, foot = render("frame.html", values).partition("<!-- page -->")
    return head, foot
