"""Sends that come while another one is under way go together with the next: one round trip for all of them.

The first of a hundred tasks sends at once and alone. What the others bring meanwhile waits, and as soon as the reply is there one of
them carries it all. So nobody waits for company, and the more there are the less each costs. Each task gets its own error.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence

import attrs
import trio

from trioworkers.errors import BrokerError, Unavailable
from trioworkers.sending import CALL_BYTES, Met


@attrs.define(eq=False)
class _Parcel:
    """One task's jobs. `turn` is set when they are delivered, or when the task is to carry what waits."""

    content: bytes
    turn: trio.Event = attrs.field(factory=trio.Event)
    delivered: bool = False
    error: BrokerError | None = None
    met: Met | None = None


class Outbox:
    """`deliver`: takes packed sends to Redis, and is not cancelled once it waits; returns by place the errors of those that it refused, and which jobs of the others were not alone."""

    def __init__(self, deliver: Callable[[Sequence[bytes]], Awaitable[Mapping[int, BrokerError | Met]]]) -> None:
        self._deliver = deliver
        self._waiting: deque[_Parcel] = deque()
        self._is_out = False

    async def send(self, content: bytes) -> Met | None:
        """Send, after all that came before; returns which of its jobs were not alone. Raises BrokerError. Cancellation: not sent, or (once under way) only noticed afterwards."""
        parcel = _Parcel(content)
        self._waiting.append(parcel)
        if self._is_out:
            await self._wait(parcel)
        if not parcel.delivered:
            await self._carry(parcel)
        if parcel.error is not None:
            raise parcel.error
        return parcel.met

    async def _wait(self, parcel: _Parcel) -> None:
        try:
            await parcel.turn.wait()
        except trio.Cancelled:
            if parcel in self._waiting:
                self._waiting.remove(parcel)
                if parcel.turn.is_set():  # its turn and its cancellation came at the same moment
                    self._pass_on()
            else:
                with trio.CancelScope(shield=True):  # under way: bounded by the reply timeout of who carries it
                    await parcel.turn.wait()
            raise

    async def _carry(self, own: _Parcel) -> None:
        self._is_out = True
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            await self._deliver_all(self._take())  # is not cancelled once it has begun: others' jobs are with ours
        finally:
            if own in self._waiting:
                self._waiting.remove(own)
            self._pass_on()

    def _take(self) -> list[_Parcel]:
        parcels = [self._waiting.popleft()]
        size = len(parcels[0].content)
        while self._waiting and size + len(self._waiting[0].content) <= CALL_BYTES:
            parcels.append(self._waiting.popleft())
            size += len(parcels[-1].content)
        return parcels

    async def _deliver_all(self, parcels: Sequence[_Parcel]) -> None:
        answers: Mapping[int, BrokerError | Met]
        answers = dict.fromkeys(range(len(parcels)), Unavailable("the send was given up"))
        try:
            answers = await self._deliver([parcel.content for parcel in parcels])
        except BrokerError as error:
            errors = {place: type(error)(*error.args) for place in range(len(parcels))}  # each raises one of its own
            for mine in errors.values():
                mine.__cause__ = error
            answers = errors
        finally:
            for place, parcel in enumerate(parcels):
                answer = answers.get(place)
                parcel.delivered = True
                if isinstance(answer, dict):
                    parcel.met = answer
                else:
                    parcel.error = answer
                parcel.turn.set()

    def _pass_on(self) -> None:
        self._is_out = bool(self._waiting)
        if self._waiting:
            self._waiting[0].turn.set()
