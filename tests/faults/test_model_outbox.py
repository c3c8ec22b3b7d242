"""Outboxes against what must always be true of them: random moves of forwarders, lost replies, late copies, dead workers, shards that are set back.

What a job enqueued into another shard waits in the outbox, or has come. It comes once, and in its order; only what an outbox had when its Redis was set back may come once more.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Awaitable, Sequence
from functools import partial
from typing import Any

import attrs
import msgspec
import pytest

from trioworkers import App, Job, Shard
from trioworkers.broker import shard_outbox
from trioworkers.broker.redis.connection import Connection, connect
from trioworkers.broker.redis.link import Link
from trioworkers.broker.sender import Sender
from trioworkers.broker.shard_outbox import BEYOND, DIVERGED, OutboxPage, Received, ShardOutbox
from trioworkers.send import Send
from trioworkers.sending import Sending
from trioworkers.wire.keys import Keys
from trioworkers.wire.outbox_entry import decode_outbox_entry

SHARDS = "abc"
Call = partial[Awaitable[Any]]
PAIRS = [("a", "b"), ("a", "c"), ("b", "c"), ("c", "a")]
"""Who sends to whom."""


@attrs.define(eq=False)
class Mover:
    """A worker that moves entries from one shard to another: what it knows, and what it does next, as `engine/forwarding.py` has it."""

    pair: tuple[str, str]
    next: str = "page"
    page: OutboxPage | None = None
    received: Received | None = None
    lives: Sequence[int] = ()
    """How often its shards had been set back when it was told `received`."""

    def dies(self) -> None:
        """Another one takes its place."""
        self.next, self.page, self.received = "page", None, None


@attrs.frozen
class Copy:
    """A shard at some time. `waits`: the numbers in its outboxes then."""

    keys: dict[bytes, bytes]
    waits: Sequence[int]


class Outboxes:
    """`wanted`: the numbers that are to come; `before`: those that may come again, how often; `order`: by pair what was enqueued since its shards were last set back."""

    def __init__(self, connection: Connection, seed: int) -> None:
        self.chance = random.Random(seed)
        self.connection = connection
        app = App(shards={name: Shard("redis://h", namespace=f"{{{name}}}") for name in SHARDS})
        for name in SHARDS:
            app.queue(f"q{name}", shards=[name])
        assert app.layout is not None
        self.keys = {name: Keys(f"{{{name}}}") for name in SHARDS}
        self.senders = {name: Sender.of(connection, Sending(keys)) for name, keys in self.keys.items()}
        self.outboxes = {name: ShardOutbox(name, self.senders, app.layout) for name in SHARDS}
        self.movers = [Mover(pair) for pair in PAIRS for _ in range(2)]
        self.late: list[tuple[tuple[str, str], Call]] = []
        self.copies: dict[str, list[Copy]] = {name: [] for name in SHARDS}
        self.lives = dict.fromkeys(SHARDS, 0)
        self.count = 0
        self.wanted: set[int] = set()
        self.came: set[int] = set()
        self.before: Counter[int] = Counter()
        self.goes_to: dict[int, str] = {}
        self.order: dict[tuple[str, str], list[int]] = {pair: [] for pair in PAIRS}

    async def execute(self, *words: Any) -> Any:
        return await self.connection.execute("test", *words)

    async def step(self) -> None:
        moves = {
            self.enqueue: 5,
            self.move: 22,
            self.late_copy_comes: 5,
            self.somebody_dies: 2,
            self.copy: 3,
            self.is_set_back: 2,
        }
        [move] = self.chance.choices([*moves], [*moves.values()])
        await move()

    async def enqueue(self) -> None:
        source, target = pair = self.chance.choice(PAIRS)
        for _ in range(self.chance.choice([1, 1, 2, 6])):
            number = self.count
            self.count += 1
            work = self.outboxes[source].work(
                self.senders[source].sending, [Send(Job(f"q{target}", "X", [number]))], 1e9
            )
            [(name, key, entries, command, names)] = work[0]
            await self.execute(command, key, *entries)
            await self.execute("SADD", names, name)
            self.wanted.add(number)
            self.goes_to[number] = target
            self.order[pair].append(number)

    async def move(self) -> None:
        """One step of one of them: its call, whose reply may be lost; then it calls again."""
        mover = self.chance.choice(self.movers)
        call = self._call(mover)
        if mover.next == "number anew" and mover.lives != self.lives_of(mover.pair):
            await self.numbers_by_old_news(mover.pair)
        self.late = [*self.late[-20:], (mover.pair, call)]
        reply = await call()
        if self.chance.random() > 0.15:
            self._goes_on(mover, reply)

    def lives_of(self, pair: tuple[str, str]) -> Sequence[int]:
        return [self.lives[name] for name in pair]

    async def numbers_by_old_news(self, pair: tuple[str, str]) -> None:
        """One numbers anew what was set back before the other side was, too: that may have had it since."""
        self.before.update(await self.waiting(pair))

    def _call(self, mover: Mover) -> Call:
        source, target = (self.outboxes[name] for name in mover.pair)
        there, page, received = mover.pair[1], mover.page, mover.received
        if mover.next == "page" or page is None:
            return partial(source.page, there)
        if mover.next == "receive" or received is None:
            return partial(target.receive, page)
        if mover.next == "number anew":
            return partial(source.page, there, page.epoch)
        return partial(source.done, there, page.epoch, received)

    def _goes_on(self, mover: Mover, reply: Any) -> None:
        match mover.next:
            case "page" if reply is not None:
                mover.next, mover.page = "receive", reply
            case "receive":
                mover.next, mover.received, mover.lives = "done", reply, self.lives_of(mover.pair)
                assert reply.problem in ("", BEYOND, DIVERGED)
            case "done" if not reply and mover.received and mover.received.problem:
                mover.next = "number anew"
            case "done" | "number anew":
                mover.dies()

    async def late_copy_comes(self) -> None:
        if self.late:
            pair, call = self.chance.choice(self.late)
            if len(call.args) == 2 and call.func == self.outboxes[pair[0]].page:
                await self.numbers_by_old_news(pair)
            await call()

    async def somebody_dies(self) -> None:
        self.chance.choice(self.movers).dies()

    async def copy(self) -> None:
        name = self.chance.choice(SHARDS)
        keys = {key: await self.execute("DUMP", key) for key in await self.execute("KEYS", f"{{{name}}}*")}
        self.copies[name] = [
            *self.copies[name][-2:],
            Copy(keys, [number for pair in PAIRS if pair[0] == name for number in await self.waiting(pair)]),
        ]

    async def is_set_back(self) -> None:
        """A failover has lost the last writes; what others know of them they still know."""
        name = self.chance.choice(SHARDS)
        if not self.copies[name]:
            return
        copy = self.chance.choice(self.copies[name])
        keys = await self.execute("KEYS", f"{{{name}}}*")
        if keys:
            await self.execute("DEL", *keys)
        for key, dump in copy.keys.items():
            await self.execute("RESTORE", key, 0, dump)
        self.lives[name] += 1
        self.before.update(copy.waits)
        self.copies[name] = []
        kept = {number for pair in PAIRS for number in await self.waiting(pair)}
        come = {number for target in SHARDS for number in await self.come(target)}
        lost = {number for number in self.came - come if self.goes_to[number] == name}
        self.wanted = (self.wanted & (kept | come)) - lost
        for pair in PAIRS:
            if name in pair:
                self.order[pair] = []

    async def waiting(self, pair: tuple[str, str]) -> list[int]:
        entries = await self.execute("LRANGE", self.keys[pair[0]].outbox(pair[1]), 0, -1)
        return [msgspec.json.decode(job.args)[0] for entry in entries for job in decode_outbox_entry(entry).jobs]

    async def come(self, target: str) -> list[int]:
        payloads = await self.execute("LRANGE", self.keys[target].queue(f"q{target}"), 0, -1)
        return [msgspec.json.decode(payload)["args"][0] for payload in reversed(payloads)]

    async def check(self) -> None:
        come = {target: await self.come(target) for target in SHARDS}
        counts = Counter(number for numbers in come.values() for number in numbers)
        self.came |= counts.keys()
        waiting = {number for pair in PAIRS for number in await self.waiting(pair)}
        assert self.wanted <= counts.keys() | waiting
        assert all(count <= 1 + self.before[number] for number, count in counts.items())
        for pair, sent in self.order.items():
            first = list(dict.fromkeys(number for number in come[pair[1]] if number in {*sent}))
            assert first == sent[: len(first)]

    async def come_to_rest(self) -> None:
        """Each shard's workers do what is left to do."""
        for pair in PAIRS:
            mover = Mover(pair)
            for _ in range(1000):
                if mover.next == "page" and not await self.waiting(pair):
                    break
                self._goes_on(mover, await self._call(mover)())
            else:
                pytest.fail(f"{pair}: something stays for ever")
            assert not await self.outboxes[pair[0]].page(pair[1])
        assert [await self.outboxes[name].waiting() for name in SHARDS] == [set()] * len(SHARDS)


SEEDS = [int(os.environ["SEED"])] if "SEED" in os.environ else range(int(os.environ.get("EXAMPLES", "5")))


@pytest.mark.parametrize("seed", SEEDS)
async def test_outboxes_are_always_right(redis_url: str, seed: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shard_outbox, "PAGE_ENTRIES", 4)
    async with connect(redis_url, Link("the test's")) as connection:
        machine = Outboxes(connection, seed)
        for _ in range(250):
            await machine.step()
            await machine.check()
        await machine.come_to_rest()
        await machine.check()
