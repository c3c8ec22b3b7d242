"""Limits around parts of jobs: `async with ctx.limit("crm")`. Who can't have one waits in its slot, first come first served over the fleet.

All that the jobs of a worker want of them goes to Redis in rounds, by one task. Who lets go says so without waiting, so that neither a
cancellation nor an outage can come between. What an attempt has is noted in its delivery before it is asked for, so that its end lets go whatever Redis
may have given by then; what the end of its worker leaves behind goes with its list.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import attrs
import trio

from trioworkers.broker.contract import Broker
from trioworkers.broker.holds.limits import Declared
from trioworkers.broker.holds.within import GOES_ON, UNLEASED, Granted, Part, Wants
from trioworkers.broker.redis.connection import retrying
from trioworkers.departures import Held, Permit
from trioworkers.engine.delivery import Delivery
from trioworkers.errors import BadArguments, ConfigurationError, RateLimited, Refused, Superseded
from trioworkers.jobs.limits import FleetLimit
from trioworkers.wire.argument_key import argument_key
from trioworkers.wire.job import Job
from trioworkers.wire.limit_spec import LimitSpec

ASK_EVERY_S = 0.05
"""How often it is looked whether those who wait may go on, who were woken by other workers."""


@attrs.define(eq=False)
class _Waiting:
    """A part that waits, and what tells it that it needn't any more. `problem`: what is wrong with its keys."""

    part: Part
    told: trio.Event = attrs.field(factory=trio.Event)
    problem: str = ""


class WithinLimits:
    """Those of one worker. `declared`: by name; `declare`: has upkeep tell the fleet of another. `broker_of`: a queue's; `on_use`: told the queue.

    `running`: what runs here.
    """

    def __init__(
        self,
        broker: Broker,
        broker_of: Callable[[str], Broker],
        running: Callable[[], Iterable[Delivery]],
        declared: Declared,
        declare: Callable[[str, LimitSpec], None] = lambda _name, _spec: None,
        on_use: Callable[[str], None] = lambda _queue: None,
    ) -> None:
        self._broker = broker
        self._broker_of = broker_of
        self._running = running
        self._declared = dict(declared)
        self._declare = declare
        self._on_use = on_use
        self._entering: list[_Waiting] = []
        self._leaving: list[Part] = []
        self._waiting: dict[str, _Waiting] = {}
        self._numbers = count(1)
        self._news = trio.Event()

    @asynccontextmanager
    async def hold(self, job: Job, limit: str | FleetLimit, key: Any) -> AsyncIterator[None]:
        """See `Context.limit`."""
        name, spec = self._named(limit, key)
        delivery = next((each for each in self._running() if each.job is job), None)
        if delivery is None:
            raise RuntimeError("the attempt is over: ctx.limit can't be used in it any more")
        waiting = self._begin(delivery, job, name, spec)
        try:
            await waiting.told.wait()
            if waiting.problem:
                raise Refused(f"limit {name}: {waiting.problem}")
            yield
        except RateLimited as error:
            self._note_closing(delivery, name, error.retry_after_s)
            raise
        finally:
            self._end(delivery, waiting)

    def _named(self, limit: str | FleetLimit, key: Any) -> tuple[str, LimitSpec]:
        if isinstance(limit, FleetLimit):
            known = self._declared.setdefault(limit.name, limit.spec)
            if not limit.name or known != limit.spec:
                raise ConfigurationError(f"limit {limit.name!r} is {limit.spec} here, and {known} elsewhere")
            self._declare(limit.name, limit.spec)
        name = limit.name if isinstance(limit, FleetLimit) else limit
        spec = self._declared.get(name)
        if spec is None:
            raise ConfigurationError(
                f"no handler declares a limit {name!r:.80}: give its numbers, ctx.limit(FleetLimit({name!r:.80}, concurrency=…))"
            )
        if key is None:
            return name, spec
        try:
            return f"{name}:{argument_key(key)}", spec
        except ValueError as error:
            raise BadArguments(f"limit {name!r}: {error}") from None

    def _begin(self, delivery: Delivery, job: Job, name: str, spec: LimitSpec) -> _Waiting:
        held = delivery.held or Held(job.jid)
        has = {each for permit in (held.permit, *held.within) if permit is not None for each in permit.limits}
        if name in has:
            raise RuntimeError(f"job {job.jid} is under limit {name} already: it would wait for itself")
        broker = self._broker_of(delivery.queue)
        record = broker.holds(delivery.queue)
        member = f"{record.removeprefix(f'{broker.keys.own}holds:')} within-{delivery.number}-{next(self._numbers)}"
        delivery.held = attrs.evolve(held, within=(*held.within, Permit(member, (name,), job.jid, record, within=True)))
        self._on_use(delivery.queue)
        waiting = _Waiting(Part(record, member, job.jid, delivery.queue, name, spec))
        self._entering.append(waiting)
        self._news.set()
        return waiting

    def _note_closing(self, delivery: Delivery, name: str, seconds: float) -> None:
        held = delivery.held
        if held is not None:
            before = () if held.closes is None else held.closes[0]
            delivery.held = attrs.evolve(held, closes=((*before, name), seconds))

    def _end(self, delivery: Delivery, waiting: _Waiting) -> None:
        part = waiting.part
        if delivery.held is not None and not delivery.is_decided:
            within = tuple(each for each in delivery.held.within if each.member != part.member)
            delivery.held = attrs.evolve(delivery.held, within=within)
        self._waiting.pop(part.member, None)
        if waiting in self._entering:  # not asked for yet
            self._entering.remove(waiting)
        else:
            self._leaving.append(part)
            self._news.set()

    async def run(self) -> None:
        """Go to Redis with what is wanted, for ever. Cancelled: what was not said goes with the worker's lists."""
        while True:
            with trio.move_on_after(ASK_EVERY_S if self._waiting or self._entering else math.inf):
                await self._news.wait()
            self._news = trio.Event()
            await self._round()

    async def _round(self) -> None:
        entering, self._entering = self._entering, []
        leaving, self._leaving = self._leaving, []
        asking = [each.part for each in self._waiting.values()]
        for each in entering:
            self._waiting[each.part.member] = each
        if not (entering or leaving or asking):
            return
        wants = Wants([each.part for each in entering], leaving, asking)
        try:
            granted = await retrying(lambda: self._broker.within(wants), final=(Superseded, Refused))
        except Refused as error:
            for each in entering:
                self._tell(each, str(error))
            return
        self._hear(entering, granted)

    def _hear(self, entering: list[_Waiting], granted: Granted) -> None:
        for each, moment in zip(entering, granted.moments, strict=True):
            if moment == UNLEASED:  # by the next heartbeat it is there again
                self._waiting.pop(each.part.member, None)
                self._entering.append(each)
            elif moment.startswith("error "):
                self._tell(each, moment.removeprefix("error "))
            else:
                each.part.moment = moment
                if moment == GOES_ON:
                    self._tell(each)
        for member in granted.members:
            if member in self._waiting:
                self._tell(self._waiting[member])

    def _tell(self, waiting: _Waiting, problem: str = "") -> None:
        self._waiting.pop(waiting.part.member, None)
        waiting.problem = problem
        waiting.told.set()
