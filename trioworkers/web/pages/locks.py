"""The locks of unique jobs: which job holds each, since when, what is to follow it."""

from __future__ import annotations

from contextlib import aclosing

from trioworkers.broker.people.locks import LockDesk
from trioworkers.web.pages.page import Page, Parts
from trioworkers.web.visit import Visit
from trioworkers.wire.lock_state import LockState

ROWS = 100


async def _parts(visit: Visit) -> Parts:
    desk = LockDesk(visit.session.connection, visit.session.keys)
    locks: list[LockState] = []
    async with aclosing(desk.pages()) as pages:
        async for page in pages:
            locks += page[: ROWS - len(locks)]
            if len(locks) >= ROWS:
                break
    yield "locks.html", {"locks": locks, "total": await desk.count(), "now_s": await visit.now_s()}


LOCKS = Page("/locks", "Locks", _parts)
