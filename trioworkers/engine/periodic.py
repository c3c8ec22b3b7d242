"""Periodic jobs: declare those of our code to the fleet, and send what is due, whoever declared it.

There is no leader. Every worker learns with its look for due jobs which entries are due, works out what that means and asks for it; one script gives the tick to
whoever comes first, with its job and its next tick. The others find that it is done. Only Redis's clock is asked.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Iterator, Sequence

import trio

from trioworkers.broker.contract import Broker, Due
from trioworkers.broker.holds.cron_entries import FORGOTTEN_AFTER_S
from trioworkers.broker.holds.ticks import Declaration, DueEntry, Take, Taken
from trioworkers.broker.redis.connection import retrying
from trioworkers.errors import Refused, Superseded
from trioworkers.missed_ticks import Plan, plan
from trioworkers.send import Send
from trioworkers.wire.periodic import NewerEntry, Periodic, Run, decode_entry, encode_entry
from trioworkers.wording import counted

logger = logging.getLogger("trioworkers")

PAGE, MOST = 50, 5000
"""How many due entries are dealt with in one step, and how many are looked at if most can't be."""
_DECLARED_AT_ONCE = 200


class Ticker:
    """The periodic jobs of one worker. `declared`: those of its code. Everything else it finds in Redis."""

    def __init__(self, broker: Broker, declared: Sequence[Periodic]) -> None:
        self._broker = broker
        self._namespace = broker.keys.worker_namespace
        self._declared = declared
        self._definitions = [encode_entry(entry) for entry in declared]
        self._since_s: float | None = None
        self._unknown = trio.Event()
        self._told: set[str] = set()
        self.page = PAGE
        """How many due entries to ask for: some more than those that are in the way, since they are left to others or can't be sent."""
        self.is_stuck = False
        """Whether nothing came of the last look, so that it is of no use to look again at once."""

    @property
    def schedule(self) -> str:
        """What stands for all that our code declares; "" if that is nothing. Heartbeats say it, so that the fleet knows what is still declared."""
        if not self._declared:
            return ""
        texts = sorted(
            entry.name.encode() + b"\0" + definition
            for entry, definition in zip(self._declared, self._definitions, strict=True)
        )
        return hashlib.blake2b(b"\0".join(texts), digest_size=8).hexdigest()

    # ── declare ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def register(self, *, sweep: bool = True) -> None:
        """Tell the fleet of our entries. Raises BrokerError, but for Refused, which is told once: broken keys keep no job from running."""
        now_s = self._broker.clock.now_s()
        if self._since_s is None:
            self._since_s = now_s
        declared = [
            Declaration(entry.name, definition, entry.timing, _score(entry.when.after(math.floor(now_s))))
            for entry, definition in zip(self._declared, self._definitions, strict=True)
        ]
        for begin in range(0, len(declared), _DECLARED_AT_ONCE):
            page = declared[begin : begin + _DECLARED_AT_ONCE]
            try:
                found = await self._broker.register_cron(
                    self.schedule, page, self._since_s, sweep=sweep and begin + _DECLARED_AT_ONCE >= len(declared)
                )
            except Superseded:
                raise
            except Refused as error:
                self._tell(f"periodic jobs can't be declared: {error}")
                return
            for name in found.changed:
                logger.info("periodic job %s is declared as this worker's code has it", name)
            for name in found.left:
                logger.info("periodic job %s is removed: no live worker has declared it for 10 minutes", name)

    def beat(self, *, is_unknown: bool) -> None:
        """A heartbeat went out, and said whether Redis knew our entries."""
        if is_unknown and self._declared:
            self._unknown.set()

    async def run(self) -> None:
        """Declare our entries again when Redis has lost them, and see now and then which are declared no more. For ever; cancellation: between two calls."""
        if not self._declared:
            await trio.sleep_forever()
        while True:
            with trio.move_on_after(FORGOTTEN_AFTER_S):
                await self._unknown.wait()
            self._unknown = trio.Event()
            await retrying(self.register, final=(Superseded, Refused))

    # ── tick ───────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def take(self, due: Due) -> float:
        """Deal with the entries that are due. Returns seconds until one of them is due again; inf if nobody knows. Raises BrokerError, but for Refused, which is told once."""
        takes = [take for entry in due.entries if (take := self._decide_safely(entry, due.now_s))]
        try:
            answers = await self._broker.take_ticks(takes) if takes else []
        except Superseded:
            raise
        except Refused as error:  # Redis is full, say: that keeps no other due job waiting
            self._tell(f"periodic jobs can't be sent, they are tried again: {error}")
            answers = [Taken("error", str(error))] * len(takes)
        next_s, done = math.inf, 0
        for take, taken in zip(takes, answers, strict=True):
            if taken.how != "error":
                next_s, done = min(next_s, take.next_s), done + 1
            self._say(take, taken)
        self.page, self.is_stuck = min(MOST, PAGE + len(due.entries) - done), not done
        return max(0.0, next_s - due.now_s)

    def _decide_safely(self, due: DueEntry, now_s: float) -> Take | None:
        try:
            return self._decide(due, now_s)
        except Exception:
            # A fault of ours, which must be this entry's trouble alone: whoever looks would meet it again and again.
            name = due.name.decode(errors="replace")
            if name not in self._told:
                self._told.add(name)
                logger.exception("periodic job %s can't be dealt with here", name)
            return None

    def _decide(self, due: DueEntry, now_s: float) -> Take | None:
        """What is to be done about an entry, whoever wrote it; None: it is for workers of a newer version."""
        name = due.name.decode(errors="replace")
        try:
            entry = decode_entry(name, due.definition)
            made = plan(entry.when, float(due.tick), now_s, entry.missed, entry.within_s)
            return Take(
                due,
                made.next_s,
                list(self._sends(entry, made, now_s)),
                list(self._runs(entry, made)),
                skips=entry.skips,
                dialect=entry.dialect,
            )
        except NewerEntry as error:
            self._tell(f"periodic job {name} is left to other workers: {error}")
            return None
        except ValueError as error:
            if "time zone data" in str(error):  # another worker's may have it
                self._tell(f"periodic job {name} is left to other workers: {error}")
                return None
            return Take(due, broken=str(error)[:500] or "it can't be read")

    def _sends(self, entry: Periodic, made: Plan, now_s: float) -> Iterator[Send]:
        for tick_s in made.push:
            job = entry.job_at(tick_s, entry.jid_at(self._namespace, tick_s))
            at_s = tick_s + entry.delay_at(tick_s)
            yield Send(job, at_s=at_s if at_s > now_s else None)

    def _runs(self, entry: Periodic, made: Plan) -> Iterator[Run]:
        for tick_s in made.push:
            yield Run(entry.jid_at(self._namespace, tick_s), tick_s)
        for tick_s in made.missed:
            yield Run(entry.jid_at(self._namespace, tick_s), tick_s, how="missed")

    def _say(self, take: Take, taken: Taken) -> None:
        name = take.entry.name.decode(errors="replace")
        if taken.how == "error":
            self._tell(f"periodic job {name} can't be sent, it is tried again: {taken.problem}")
        elif taken.how == "forgotten":
            logger.info("periodic job %s is removed: no live worker has declared it for 10 minutes", name)
        elif taken.how == "taken" and take.broken:
            self._tell(f"periodic job {name} can't be read, and is put aside: {take.broken}")
        elif taken.how == "taken":
            for run in take.runs[len(take.sends) :]:
                logger.warning("periodic job %s: the tick of epoch second %.0f was missed", name, run.tick_s)
            if len(take.sends) > 1:
                logger.warning("periodic job %s: %s made up for", name, counted(len(take.sends) - 1, "missed tick"))

    def _tell(self, text: str) -> None:
        """Each once, as long as nothing else goes wrong."""
        if text not in self._told:
            self._told = {text, *list(self._told)[:1000]}
            logger.error("%s", text)


def _score(tick_s: int | None) -> float:
    return math.inf if tick_s is None else tick_s
