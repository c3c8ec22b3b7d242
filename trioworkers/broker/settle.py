"""Settles: outcomes are written, each once, by the one who has the payload."""

from __future__ import annotations

import hashlib
import logging
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import trio

from trioworkers import outcome as outcomes
from trioworkers.broker.contract import Settlement
from trioworkers.broker.owner import Owner
from trioworkers.broker.redis.pace import MOST_BYTES
from trioworkers.broker.redis.refusals import is_forbidden
from trioworkers.broker.redis.scripts import ENDS, Script, script
from trioworkers.broker.settle_large import SOME, are_large, settle_large
from trioworkers.broker.too_slow import CantPass
from trioworkers.errors import Refused, Unavailable
from trioworkers.exits import Effect, given_up
from trioworkers.wire.decode import jid_of
from trioworkers.wire.packing import pack, unpack

if TYPE_CHECKING:
    from trioworkers.broker.shard_outbox import ShardOutbox

logger = logging.getLogger("trioworkers")

_SETTLE = partial(
    script,
    __file__,
    "settle",
    keys=(
        "lease",
        "last_settle",
        "schedule",
        "retry",
        "dead",
        "crashes",
        "suspects",
        "processed_in_all",
        "processed_then",
        "failed_in_all",
        "failed_then",
    ),
    args=("group", "ours", "work", "counts_failures", "*payloads"),
)
SETTLE = _SETTLE(preludes=("send", "fence", "take"))
SETTLE_HELD = _SETTLE(preludes=(*ENDS, "fence", "take"))
"""For a group whose jobs hold something, or send what will."""


DAY_S = 86_400
LARGE_AGAIN_S = 60.0
"""After a failure large payloads go the patient way for so long."""
SETTLE_NAME, SETTLE_APART = "settle", "settle apart"
MARGINS = (0, 1, 64, 512, 4096, 1 << 15)
"""How much of a payload at its beginning and end may have been changed by what was amended: our fields and those of its failure."""

SHOWN = 50
"""Jobs that one line of the log names."""


class Settles(Owner):
    """See the module."""

    outbox: ShardOutbox | None = None
    """Of a worker with several shards: for what its jobs send into others."""
    _large_again_at = -math.inf
    _keys_of: tuple[int, list[str]] = (-1, [])
    on_moves: Callable[[], None] = staticmethod(lambda: None)
    """Told when an end has others follow, more than there was time for in its step."""

    async def settle(self, number: int, group: Sequence[Settlement], cleared: Sequence[str] = ()) -> dict[int, str]:
        """Write outcomes: each takes its payload from in-progress to its next place, if it is still ours.

        May be repeated with the same number and group after a lost reply; each group has the next number. `cleared`: jids suspected no
        longer. Returns by index in the group what did not go through: "gone" for what is ours no more, else Redis's error, and the
        payload is still ours.
        """
        if not cleared and are_large(group) and self._carries_large:
            problems = await self._settle_large(number, group)
            if problems is not None:
                return problems
        by_queue: defaultdict[str, list[int]] = defaultdict(list)  # indexes in the group
        more: defaultdict[str, list[tuple[Any, ...]]] = defaultdict(list)  # than to forget a payload
        holding: list[int] = []
        sends_unique = False
        for index, (queue, payload, outcome, effects) in enumerate(group):
            if effects:
                holding.append(index)
            if isinstance(outcome, outcomes.LetGo):
                continue
            by_queue[queue].append(index)
            if not isinstance(outcome, outcomes.Acknowledge) or outcome.sends:
                action = self._action(queue, payload, outcome)
                if action[3:] and action[0] == "sends":
                    ops = action[4] if action[4:] else False
                    sends_unique, action = True, (*action[:4], ops, given_up(effects))
                more[queue].append((len(by_queue[queue]), *action))
        lists: list[tuple[Any, ...]]
        lists = [(self.in_progress(queue), len(indexes), more[queue]) for queue, indexes in by_queue.items()]
        indexes = list(chain.from_iterable(by_queue.values()))
        apart = self._apart(group) if SETTLE_NAME in self.too_slow else b""
        if apart:
            lists = [
                (list_, count, [_without(apart, each) for each in more], _known_by(apart))
                for list_, count, more in lists
            ]
        work = pack(
            (lists, cleared, (self.keys.own, _effects(group, holding, indexes))) if holding else (lists, cleared)
        )
        args: list[Any] = [number, self.holder.lease, work, int(self.dialect.processed_counts_failures)]
        args.extend(b"" if apart else group[index].payload for index in indexes)
        script = SETTLE_HELD if holding or sends_unique else SETTLE
        problems = dict(unpack(await self._carry(script, args, is_apart=bool(apart))) or ())
        if problems.pop(0, None) is not None:
            self.on_moves()
        _say_of_some(group, problems.pop(SOME, ""))
        return {indexes[number - 1]: problem for number, problem in problems.items()}

    @property
    def _carries_large(self) -> bool:
        """Whether large payloads go in many commands: over a slow link one call, which is waited for as long as it moves, comes through sooner."""
        return self.connection.link.pace.bytes == MOST_BYTES and trio.current_time() >= self._large_again_at

    async def _settle_large(self, number: int, group: Sequence[Settlement]) -> dict[int, str] | None:
        lists: defaultdict[str, list[bytes]] = defaultdict(list)
        places: defaultdict[str, list[int]] = defaultdict(list)
        for index, (queue, payload, _, _) in enumerate(group):
            lists[self.in_progress(queue)].append(payload)
            places[queue].append(index)
        keys = self._settle_keys()
        try:
            problems = await settle_large(self.connection, [*keys[:2], *keys[7:9]], [number, self.holder.lease], lists)
        except Unavailable:
            self._large_again_at = trio.current_time() + LARGE_AGAIN_S
            raise
        except Refused as error:
            if not is_forbidden(str(error)):
                raise
            self._large_again_at = math.inf  # nothing was taken, and with these rights nothing will be
            return None
        if problems is None:
            return None
        indexes = list(chain.from_iterable(places.values()))
        _say_of_some(group, problems.pop(SOME, ""))
        return {indexes[place]: problem for place, problem in problems.items()}

    def _apart(self, group: Sequence[Settlement]) -> bytes:
        """The one payload of a group that the link can't carry as a whole. Raises CantPass for several: each shall be tried by itself; and for what it brings along."""
        if len(group) > 1:
            raise CantPass
        if SETTLE_APART in self.too_slow:
            self.too_slow.forget(SETTLE_NAME, SETTLE_APART)
            raise CantPass
        return group[0].payload

    async def _carry(self, script: Script, args: list[Any], *, is_apart: bool) -> Any:
        began_at = trio.current_time()
        try:
            reply = await self.connection.run(script, self._settle_keys(), args)
        except Unavailable as error:
            size = sum(map(len, args[4:]), len(args[2]))
            name = SETTLE_APART if is_apart else SETTLE_NAME
            self.too_slow.failed(name, began_at, error, size, divisible=not is_apart)
            raise
        if is_apart:
            self.too_slow.forget(SETTLE_NAME, SETTLE_APART)
        return reply

    def _action(self, queue: str, payload: bytes, outcome: outcomes.Outcome | outcomes.Checkpoint) -> Sequence[Any]:
        """What `settle.lua` calls it, and what it wants to know."""
        action: Sequence[Any]
        match outcome:
            case outcomes.Acknowledge(sends, _):
                outbox, now_s = self.outbox, self.clock.now_s()
                work = self.work(sends) if outbox is None else outbox.work(self.sending, sends, now_s)
                action = ("sends", *work)
            case outcomes.Retry(amended, delay_s):
                action = ("retry", amended, delay_s)
            case outcomes.Bury(amended, counted=counted, failure=failure):
                in_list = int(self.dialect.keeps_records)
                action = ("dead", self.as_dead(amended, queue, failure), int(counted), in_list)
            case outcomes.Discard():
                action = ("discard",)
            case outcomes.Expire():
                action = ("expire",)
            case outcomes.Checkpoint(amended):
                action = ("amend", amended)
            case outcomes.Requeue(changed):
                again = payload if changed is None else changed
                action = ("requeue", self.keys.queue(queue), again, self.dialect.put_back_with)
            case outcomes.Snooze(amended, delay_s):
                action = ("snooze", amended, delay_s)
        return action

    def _settle_keys(self) -> list[str]:
        """The same all day long."""
        day = int(self.clock.now_s() // DAY_S)
        if self._keys_of[0] != day:
            self._keys_of = (day, self._make_settle_keys())
        return self._keys_of[1]

    def _make_settle_keys(self) -> list[str]:
        keys, process_id = self.keys, self.holder.process_id
        today = datetime.fromtimestamp(self.clock.now_s(), UTC).strftime("%Y-%m-%d")
        stats = [key for name in ("processed", "failed") for key in keys.stats(name, today, self.worker)]
        own = [self._lease_key, keys.last_settle(process_id)]
        return [
            *own,
            keys.schedule,
            keys.retry,
            keys.dead,
            keys.crashes,
            keys.suspects(process_id),
            *stats,
        ]


def _say_of_some(group: Sequence[Settlement], count: str) -> None:
    """Of which group some jobs were not ours any more, `count` of them, where nobody can say which."""
    if not count:
        return
    shown = [jid_of(each.payload) for each in group[:SHOWN]]
    more = f" and {len(group) - SHOWN} more" if len(group) > SHOWN else ""
    text = "%s of %d jobs that succeeded were no longer ours, and run elsewhere; the reply that said which was lost: among %s%s"
    logger.warning(text, count, len(group), ", ".join(shown), more)


def _known_by(payload: bytes) -> tuple[str, int]:
    """By what Redis finds the payload of ours that it has already."""
    return hashlib.sha1(payload, usedforsecurity=False).hexdigest(), len(payload)


def _without(payload: bytes, action: tuple[Any, ...]) -> tuple[Any, ...]:
    """What `settle.lua` is to do, without those bytes that Redis has in the payload already."""
    if action[1] == "sends":
        return action
    return tuple(_spliced(payload, each) if isinstance(each, bytes) else each for each in action)


def _spliced(payload: bytes, amended: bytes) -> bytes | tuple[bytes, int, int, bytes]:
    """The amended payload as what comes before and after a part of the old one, told by its first and last byte's place, from one on."""
    for margin in MARGINS:
        middle = payload[margin : len(payload) - margin]
        at = amended.find(middle) if middle else -1
        if at >= 0:
            return amended[:at], margin + 1, len(payload) - margin, amended[at + len(middle) :]
    return amended


def _effects(
    group: Sequence[Settlement], holding: Iterable[int], indexes: Sequence[int]
) -> list[tuple[int, int, Effect]]:
    """The effects of a group as `settle.lua` wants them. What an attempt held is let go even if its job is not ours any more."""
    numbers = {index: number for number, index in enumerate(indexes, 1)}
    return [
        (numbers.get(index, 0), int(effect[0] == "permit"), effect)
        for index in holding
        for effect in group[index].effects
    ]
