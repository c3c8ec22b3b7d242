"""Writes this worker's record and lease; passes on what it hears: signals from Sidekiq's tools, lists without a worker."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from time import time

import trio

from trioworkers.broker.contract import Broker
from trioworkers.broker.presence import Beat, Presence
from trioworkers.broker.redis.connection import retrying
from trioworkers.engine.delivery import Delivery
from trioworkers.engine.overdue import Overdue
from trioworkers.identity import parent_name, rss_kb
from trioworkers.ticks import next_tick
from trioworkers.wire.capsule import Capsule
from trioworkers.wire.hosts import HostState, encode_hosts
from trioworkers.wire.own_record import Identity, Record, encode_classes, encode_running

MAX_SHOWN = 1000
MAX_SHOWN_BYTES = 1_000_000
"""Of the running jobs, that many (and that many bytes of payload, or fewer over a slow link) are shown to Sidekiq's tools; `busy` counts them all."""


class Heartbeat:
    """Beats until cancelled. `running` tells what runs, `is_quiet` whether we fetch, `settled` counts by queue, `on_beat` hears the answer."""

    def __init__(
        self,
        broker: Broker,
        presence: Presence,
        identity: Identity,
        queues: Mapping[str, int],
        *,
        classes: Mapping[str, Sequence[str]],
        capsules: Sequence[Capsule],
        running: Callable[[], Iterable[Delivery]],
        is_quiet: Callable[[], bool],
        settled: Callable[[], Mapping[str, int]],
        on_beat: Callable[[Beat], None],
    ) -> None:
        self._broker = broker
        self._presence = presence
        self._identity = identity
        self._queues = queues
        self._capsules = capsules
        self._classes = encode_classes(classes)
        self._running = running
        self._is_quiet = is_quiet
        self._on_beat = on_beat
        self._settled = settled
        self._settled_before: tuple[float, Mapping[str, int]] = trio.current_time(), settled()
        self._started_at_s = time()
        self._rtt_us = 0
        self._hurried = trio.Event()
        self._overdue = Overdue()
        self.look_at_hosts: Callable[[], Sequence[HostState] | None] = lambda: None
        """How the hosts do that jobs call; None: none has called one yet."""
        self.hosts: Sequence[HostState] = ()
        """What the last one told of them."""
        self.beaten_at = -math.inf
        """When the last one reached Redis, by `trio.current_time()`."""

    async def run(self) -> None:
        """Beat for ever; an outage only delays the next one. Raises Superseded if another worker has our process id."""
        interval_s = self._presence.beat_interval_s
        while True:
            self._hurried = trio.Event()
            self._on_beat(await retrying(self.beat, longest_s=min(1.0, interval_s)))
            with trio.move_on_at(next_tick(interval_s)):
                await self._hurried.wait()

    def hurry(self) -> None:
        """Beat at once: our lease was gone, and perhaps our lists with it, of which only a beat notes all."""
        self._hurried.set()

    async def beat(self) -> Beat:
        """One heartbeat. Raises BrokerError."""
        running = list(self._running())
        now = trio.current_time()
        self._overdue.look(running, now)
        now_s = self._broker.clock.now_s()
        hosts = self.look_at_hosts()
        self.hosts = hosts or ()
        record = Record(
            identity=self._identity,
            process_id=self._broker.holder.process_id,
            started_at_s=self._started_at_s,
            queues=self._queues,
            busy=len(running),
            quiet=self._is_quiet(),
            beat_s=now_s,
            rtt_us=self._rtt_us,
            rss_kb=rss_kb(),
            rates=self._rates(now),
            capsules=self._capsules,
            parent=parent_name(),
            classes=self._classes,
            busy_in=Counter(delivery.queue for delivery in running),
            hosts=None if hosts is None else encode_hosts(hosts),
        )
        most_bytes = min(MAX_SHOWN_BYTES, self._broker.at_once_bytes)
        beat = await self._presence.beat(record, _shown(running, now_s - now, most_bytes))
        self.beaten_at = trio.current_time()
        self._rtt_us = int((self.beaten_at - now) * 1_000_000)
        self._broker.clock.set(beat.redis_now_s)
        return beat

    def _rates(self, now: float) -> Mapping[str, float]:
        before_at, before = self._settled_before
        settled = dict(self._settled())
        self._settled_before = now, settled
        past_s = max(now - before_at, 0.001)
        return {queue: round((count - before.get(queue, 0)) / past_s, 1) for queue, count in settled.items()}


def _shown(running: list[Delivery], epoch_of_clock_s: float, most_bytes: int) -> list[tuple[str, bytes]]:
    shown: list[tuple[str, bytes]] = []
    size = 0
    for number, delivery in enumerate(sorted(running, key=lambda delivery: delivery.started_at)):
        size += len(delivery.payload)
        if number == MAX_SHOWN or size > most_bytes:
            break
        if delivery.jid:  # what has not been decoded could spoil the page that shows it
            run_at_s = delivery.started_at + epoch_of_clock_s
            shown.append((f"{id(delivery):x}", encode_running(delivery.queue, delivery.payload, run_at_s)))
    return shown
