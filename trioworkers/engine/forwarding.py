"""Takes what the jobs of one shard enqueued into others to these, from its outbox. Any worker does it for all; whoever comes second does no harm."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TypeVar

import trio

from trioworkers.broker.redis.connection import retrying
from trioworkers.broker.shard_outbox import BEYOND, DIVERGED, ShardOutbox
from trioworkers.errors import Refused
from trioworkers.shards import called
from trioworkers.ticks import next_tick

logger = logging.getLogger("trioworkers")

T = TypeVar("T")
LOOK_EVERY_S = 2.0
"""How often is looked what other workers left there, which have died, say."""
SOON_S = (0.005, 0.02, 0.1, 0.5)
"""How long after a job has ended that sends elsewhere is looked: its outcome is on its way."""
AFTER_PROBLEM_S = 1.0


class Forwarder:
    """That of the shard `here`. `outboxes`: of all shards."""

    def __init__(self, here: str, outboxes: Mapping[str, ShardOutbox]) -> None:
        self._here = here
        self._outbox = outboxes[here]
        self._others = {name: outbox for name, outbox in outboxes.items() if name != here}
        self._due = {name: trio.Event() for name in self._others}
        self._news = trio.Event()
        self._told: set[str] = set()
        self._outbox.on_away = self._look_soon

    def __repr__(self) -> str:
        return f"<Forwarder from {called(self._here)} to {', '.join(map(called, self._others))}>"

    async def run(self) -> None:
        """For ever. An outage of one shard keeps none of the others waiting. Cancellation: between two steps; what has begun is gone on with by others."""
        async with trio.open_nursery() as nursery:
            for target in self._others:
                nursery.start_soon(self._forward, target)
            await self._look()

    def _look_soon(self) -> None:
        self._news.set()

    async def _look(self) -> None:
        soon = iter(SOON_S)
        while True:
            for target in await self._retrying(self._outbox.waiting, self._here, self._outbox.keys.outboxes):
                if target in self._due:
                    self._due[target].set()
                else:
                    self._tell(
                        f"jobs wait in the outbox of {called(self._here)} for shard {target!r}, which this App doesn't have: name it, if only to drain it"
                    )
            wait_s = next(soon, None)
            with trio.move_on_at(next_tick(LOOK_EVERY_S) if wait_s is None else trio.current_time() + wait_s):
                await self._news.wait()
            if self._news.is_set():
                self._news, soon = trio.Event(), iter(SOON_S)

    async def _forward(self, target: str) -> None:
        while True:
            await self._due[target].wait()
            self._due[target] = trio.Event()
            while await self._forward_page(target):
                pass

    async def _forward_page(self, target: str) -> bool:
        """One page; whether there may be more."""
        receiver = self._others[target]
        ours = self._here, self._outbox.keys.outbox(target)
        page = await self._retrying(partial(self._outbox.page, target), *ours)
        if page is None:
            return False
        received = await self._retrying(partial(receiver.receive, page), target, receiver.keys.received)
        is_other = received.problem in (BEYOND, DIVERGED)
        are_ours = await self._retrying(partial(self._outbox.done, target, page.epoch, received), *ours)
        if is_other and not are_ours:
            text = "the outbox of %s lost its numbers: its jobs for %s are numbered again"
            logger.warning(text, called(self._here), called(target))
            await self._retrying(partial(self._outbox.page, target, page.epoch), *ours)
        elif received.problem and not is_other:
            self._tell(
                f"what jobs in {called(self._here)} enqueued can't be written in {called(target)}, it waits in the outbox: {received.problem}"
            )
            await trio.sleep(AFTER_PROBLEM_S)
        return True

    async def _retrying(self, call: Callable[[], Awaitable[T]], shard: str, key: str) -> T:
        """What a shard refuses at this key (its type is another, say) doesn't pass by itself: somebody must hear of it."""

        async def telling() -> T:
            try:
                return await call()
            except Refused as error:
                self._tell(
                    f"what jobs in {called(self._here)} enqueued into other shards waits: {called(shard)} refuses {key}: {error}"
                )
                raise

        return await retrying(telling, final=())

    def _tell(self, text: str) -> None:
        """Each once, as long as nothing else goes wrong."""
        if text not in self._told:
            self._told = {text, *list(self._told)[:100]}
            logger.error("%s", text)
