"""What a button started: done in the background, with its progress, its end and, where that is possible, its undoing. The last hundred are remembered.

They are system tasks, for a mounted application has no nursery of its own. They can't take their program down: whatever goes wrong is their result. Ended half-way, by a
stop or with the process, what is done is done and the rest is as it was.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Literal

import attrs
import trio

from trioworkers.broker.people.session import Session
from trioworkers.errors import TrioworkersError, WrongUsage
from trioworkers.printable import on_one_line
from trioworkers.wire.entry import Entry
from trioworkers.wire.places import Location

logger = logging.getLogger("trioworkers.web")

REMEMBERED = 100
AT_ONCE = 4
SHORT_S = 1.5
"""Who presses a button waits so long for its end; longer ones go on while the next page shows how far they are."""

Work = Callable[[Session, "Operation"], Awaitable[None]]


@attrs.define
class Operation:
    """One press of a button. `lines`: what came of it, in words. `total`: how many payloads it goes through, if it does. `undo`: what it deleted, if all of that is kept."""

    what: str
    who: str
    id: str = attrs.field(factory=lambda: secrets.token_hex(6))
    began_s: float = attrs.field(factory=time.time)
    state: Literal["running", "done", "failed", "stopped"] = "running"
    lines: list[str] = attrs.field(factory=list)
    total: int = 0
    seen: int = 0
    moved: int = 0
    undo: tuple[Location, list[Entry]] | None = None
    ended: trio.Event = attrs.field(factory=trio.Event, repr=False)
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope, repr=False)

    def say(self, text: str) -> None:
        """One line of what came of it."""
        self.lines.append(text)


@attrs.frozen
class Confirm:
    """What will be done, in words, and the form that does it."""

    text: str
    path: str
    fields: Sequence[tuple[str, str]]
    yes: str


Pressed = Operation | Confirm


class Operations:
    """Those of one dashboard, the latest last."""

    def __init__(self, open_session: Callable[[], AbstractAsyncContextManager[Session]]) -> None:
        self._open_session = open_session
        self._known: dict[str, Operation] = {}

    def __iter__(self) -> object:
        return iter(list(self._known.values()))

    def get(self, id_: str) -> Operation | None:
        """That one, if it is still remembered, and was begun in this process."""
        return self._known.get(id_)

    def latest(self) -> list[Operation]:
        """All that are remembered, the latest first."""
        return list(self._known.values())[::-1]

    def refused(self, what: str, who: str, why: str) -> Operation:
        """Remember one that could not be begun."""
        operation = Operation(what, who, state="failed", lines=[why])
        self._remember(operation)
        logger.warning("dashboard: %s: failed: %s", on_one_line(what), on_one_line(why))
        operation.ended.set()
        return operation

    def _remember(self, operation: Operation) -> None:
        self._known[operation.id] = operation
        while len(self._known) > REMEMBERED:
            self._known.pop(next(iter(self._known)))

    async def begin(self, what: str, who: str, work: Work) -> Operation:
        """Begin it, and wait a moment for its end. Raises WrongUsage if too many are under way."""
        if sum(each.state == "running" for each in self._known.values()) >= AT_ONCE:
            raise WrongUsage(f"{AT_ONCE} things are being done at this moment: wait for one of them, or stop it")
        operation = Operation(what, who)
        self._remember(operation)
        logger.warning("dashboard: %s, by %s", on_one_line(what), on_one_line(who) or "somebody without a name")
        trio.lowlevel.spawn_system_task(self._run, operation, work, name="a button of the dashboard")
        with trio.move_on_after(SHORT_S):
            await operation.ended.wait()
        return operation

    async def _run(self, operation: Operation, work: Work) -> None:
        try:
            with operation.scope:
                async with self._open_session() as session:
                    await work(session, operation)
            operation.state = "stopped" if operation.scope.cancelled_caught else "done"
        except TrioworkersError as error:
            operation.state = "failed"
            operation.say(str(error))
        except Exception as error:
            operation.state = "failed"
            operation.say(f"our own mistake: {type(error).__name__}: {error}")
            logger.exception("dashboard: %s failed", on_one_line(operation.what))
        finally:
            operation.ended.set()
        came = f"{operation.state}: {'; '.join(operation.lines)}"
        logger.warning("dashboard: %s: %s", on_one_line(operation.what), on_one_line(came))
