"""One request for a page: what it may ask, and how addresses of ours are written."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import attrs

from trioworkers.broker.people.session import Session
from trioworkers.web.guard import Visitor
from trioworkers.web.http import Request, address
from trioworkers.web.redaction import redacted
from trioworkers.web.site import Site
from trioworkers.wire.entry import Entry


@attrs.frozen
class Visit:
    """Who asks for what, with a session of its own."""

    site: Site
    request: Request
    visitor: Visitor
    session: Session

    @property
    def may_write(self) -> bool:
        """Whether buttons are shown."""
        return self.visitor.may == "write"

    def url(self, path: str, /, **values: object) -> str:
        """An address of ours."""
        return address(self.request.root, path, **values)

    def turned(self, **values: object) -> str:
        """The same page with other values in its query."""
        kept = {name: self.request.all(name) for name, _ in self.request.query if name != "did"}
        return address(self.request.root, self.request.path, **{**kept, **values})

    def shown(self, entry: Entry) -> Entry:
        """The entry as it may be shown."""
        return redacted(entry, self.site.redact)

    async def now_s(self) -> float:
        """Redis's time, in epoch seconds."""
        return await self.session.inspector.now_s()

    async def fresh(self, name: str, look: Callable[[], Awaitable[Any]], for_s: float = 1.0) -> Any:
        """See `Site.fresh`."""
        return await self.site.fresh(name, look, for_s)
