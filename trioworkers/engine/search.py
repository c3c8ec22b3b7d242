"""The search for what others deleted: a job that vanished from Sidekiq's web page while it had a lock ends nowhere, and nobody lets its lock go.

By evidence, not by time: the job was in no place in two complete looks, a minute apart, and nothing of it moved between their beginning and their
end. A job that moves notes that with its lock (`touch`), so that one which runs in circles between two places, and is missed in both, is not taken for
gone. Any worker searches for all, one at a time; who finds that another one has begun waits for the next turn. Where nothing is held nobody does.

What is held is asked for, looked for and let go by kind (`Evidence`); locks are one. What the places hold is seen in one walk for all of them.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from typing import Protocol

import trio

from trioworkers.broker.contract import Broker
from trioworkers.broker.holds.search import MEMBER, HeldLock
from trioworkers.broker.redis.link import Link
from trioworkers.errors import BadPayload, BrokerError, Superseded
from trioworkers.wire.keys import Keys
from trioworkers.wording import counted

logger = logging.getLogger("trioworkers")

EVERY_S = 180.0
"""How often the fleet searches, where anything is held."""
UNTOUCHED_S = 60.0
"""What has moved since is not looked for."""
BETWEEN_S = 60.0
"""How long after the first look the second one begins."""
REST = 4.0
"""How many times as long as a page took nothing is done after it: Redis is there for the jobs."""
_SHOWN = 5


class Evidence(Protocol):
    """One kind of what is held: see `LockSearch`."""

    async def begin(self, process_id: str, every_s: float) -> bool:
        """Whether the next search is ours."""

    async def untouched(self, for_s: float) -> tuple[list[HeldLock], list[bytes]]:
        """What is to be looked for; and payloads that lie where nobody will look for them."""

    def walk(self) -> AsyncGenerator[list[str], None]:
        """A complete look: the keys of what is seen."""

    async def let_go(
        self, held: Sequence[HeldLock], lost: Sequence[tuple[bytes, str, Keys, str]] = ()
    ) -> tuple[int, int]:
        """Let go what was not seen."""


class Search:
    """That of one worker."""

    def __init__(self, broker: Broker, link: Link, evidence: Evidence) -> None:
        self._broker = broker
        self._link = link
        self._evidence = evidence
        self._wake = trio.Event()
        self._not_before = -math.inf
        self._told = ""

    def beat(self, *, something_is_held: bool) -> None:
        """A heartbeat went out, and said whether there is anything to look for."""
        if something_is_held and trio.current_time() >= self._not_before:
            self._wake.set()

    async def run(self) -> None:
        """Search for ever, when it is our turn. Cancellation: between two pages."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            self._not_before = trio.current_time() + EVERY_S / 4
            try:
                if await self._evidence.begin(self._broker.holder.process_id, EVERY_S):
                    await self.search()
            except Superseded:
                raise
            except BrokerError as error:  # nothing is concluded from half a look; the next one comes
                if str(error) != self._told:
                    logger.warning("what others may have deleted can't be searched for: %s", error)
                self._told = str(error)

    async def search(self) -> None:
        """Two looks, and what follows from them. Raises BrokerError."""
        outages = self._link.outages
        held, lost = await self._evidence.untouched(UNTOUCHED_S)
        broken = [lock for lock in held if not lock.jid]
        missing = await self._missing([lock for lock in held if lock.jid])
        if missing:
            await trio.sleep(BETWEEN_S)
            missing = await self._missing(missing)
        if self._link.outages != outages or not (missing or broken or lost):
            return
        back = list(self._with_queues(lost))
        gone, given_back = await self._evidence.let_go([*missing, *broken], back)
        self._tell(missing, broken, gone, given_back)

    async def _missing(self, wanted: Sequence[HeldLock]) -> list[HeldLock]:
        """Those that a complete look doesn't see."""
        missing = {lock.key: lock for lock in wanted}
        if not missing:
            return []
        began_at = trio.current_time()
        async with aclosing(self._evidence.walk()) as pages:
            async for page in pages:
                for key in page:
                    missing.pop(key, None)
                took_s = trio.current_time() - began_at
                await trio.sleep(took_s * REST)
                began_at = trio.current_time()
        return list(missing.values())

    def _with_queues(self, lost: Sequence[bytes]) -> Iterator[tuple[bytes, str, Keys, str]]:
        """Where they belong."""
        for payload in lost:
            try:
                queue = self._broker.dialect.destination(payload)
            except BadPayload:
                continue  # an operator may delete it; `next` lists it
            dialect, keys = self._broker.spoken_on(queue)
            yield payload, queue, keys, dialect.pushed_with

    def _tell(self, missing: Sequence[HeldLock], broken: Sequence[HeldLock], gone: int, given_back: int) -> None:
        if gone:
            shown = ", ".join(f"{lock.key} of job {lock.jid}" for lock in missing[:_SHOWN])
            unreadable = f"{len(broken)} that could not be read" if broken else ""
            what = sorted({"member" if lock.key.startswith(MEMBER) else "lock" for lock in [*missing, *broken]})
            logger.warning(
                "%s given back, because the job is in no place any more (another program deleted it): %s",
                counted(gone, " or ".join(what)),
                "; ".join(text for text in (shown, unreadable) if text),
            )
        if given_back:
            logger.warning("%s put back: the lock had no record of what waited for it", counted(given_back, "job"))
