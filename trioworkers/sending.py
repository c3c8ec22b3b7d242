"""What a client does, without I/O: values in, bytes out.

A client checks and encodes jobs, groups them into calls that Redis can carry out in a moment, has `enqueue.lua` run, and reads what it
says. All but the running is here, so that each client is a thin shell around it: it moves bytes, waits, and repeats what may be repeated.

```
parcels = [*sending.parcels(sends, now_s)]          # BadJob before anything is sent
reply = run(ENQUEUE, call.keys, call.args)           # for each call of sending.calls(parcels): the shell's part
errors = read(reply)                                 # by parcel
```

**Repeating a call.** A call with a token may be repeated after a lost reply: `enqueue.lua` keeps what it answered under the token for
`TOKEN_S`. A copy that is still under way then (a connection that broke, and whose bytes Redis reads later) must not be carried out when the
token is forgotten: so it says until when it may be, by Redis's clock, which is sooner.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import attrs

from trioworkers.errors import BrokerError
from trioworkers.outcome import Send
from trioworkers.size_guard import SizeGuard
from trioworkers.wire.dialect import SIDEKIQ, Dialect
from trioworkers.wire.error_replies import refusal
from trioworkers.wire.job import Job
from trioworkers.wire.keys import Keys
from trioworkers.wire.lifetime import refuse_past
from trioworkers.wire.packing import pack

PARCEL_JOBS = 1000
PARCEL_BYTES = 8_000_000
"""How many jobs go to Redis in one step: it serves nobody else meanwhile."""
CALL_BYTES = 1_000_000
"""How much of several callers' goes together in one call."""
TOKEN_S = 120
CALL_LIFE_S = 60.0
"""How long after it was made a call with a token may be carried out; less than `TOKEN_S`, by more than clocks differ."""

_LATE = re.compile(r"LATE (\d+(?:\.\d+)?)")


class Sent(str):
    """A job that was sent: its jid, as a string that may say more."""

    __slots__ = ()


@attrs.frozen
class Call:
    """One run of `enqueue.lua`."""

    keys: list[str]
    args: list[bytes]


class Sending:
    """How one client's jobs become calls. `guard`: sees each payload; `foreign`: the queues that speak another dialect, with their keys."""

    def __init__(
        self,
        keys: Keys,
        dialect: Dialect = SIDEKIQ,
        guard: SizeGuard | None = None,
        foreign: Mapping[str, tuple[Dialect, Keys]] | None = None,
    ) -> None:
        self.keys = keys
        self.dialect = dialect
        self.guard = SizeGuard() if guard is None else guard
        self.foreign = {} if foreign is None else foreign

    def spoken_on(self, queue: str) -> tuple[Dialect, Keys]:
        """What is spoken on a queue, and where it lies."""
        return self.foreign.get(queue) or (self.dialect, self.keys)

    def parcels(self, sends: Iterable[Send], now_s: float) -> Iterator[bytes]:
        """The jobs, checked and encoded, a thousand or 8 MB to a parcel: Redis takes all of a parcel or nothing. Raises BadJob.

        Take them all before the first is sent. `now_s`: epoch seconds by Redis's clock, as far as it is known.
        """
        remaining = iter(sends)
        while True:
            push, later = self.work(islice(remaining, PARCEL_JOBS), now_s, self.guard.check, PARCEL_BYTES)
            if not push and not later:
                return
            yield pack((push, later))

    def work(
        self,
        sends: Iterable[Send],
        now_s: float,
        admit: Callable[[Job, bytes], None] | None = None,
        max_bytes: float = math.inf,
    ) -> tuple[list[Any], list[Any]]:
        """`(push, later)` as `send.lua` wants them. `admit`: sees each payload, and may refuse it.

        Takes no more from `sends` once their payloads have `max_bytes`.
        """
        size = 0
        push: dict[str, tuple[Any, ...]] = {}
        later = []
        for send in sends:
            job = send.job
            dialect, keys = self.spoken_on(job.queue)
            at_once = send.delay_s is None and send.at_s is None
            payload = dialect.encode(job, now_s, enqueued=at_once, due_s=None if at_once else send.due_s(now_s))
            if admit is not None:
                if job.deadline is not None:
                    refuse_past(job.deadline, now_s)
                admit(job, payload)
            if at_once:
                if job.queue not in push:
                    push[job.queue] = (job.queue, keys.queue(job.queue), [], dialect.pushed_with, keys.queues)
                push[job.queue][2].append(payload)
            else:
                later.append((payload, send.delay_s or 0.0, send.at_s or False, dialect.waits_in(payload, keys)))
            size += len(payload)
            if size >= max_bytes:
                break
        return list(push.values()), later

    def call(self, parcels: Sequence[bytes]) -> Call:
        """A call that carries parcels of any number of callers. It is not repeated: who doesn't hear of it doesn't know."""
        return Call([], [b"", *parcels])

    def repeatable(self, parcel: bytes, token: str, number: int, now_s: float) -> Call:
        """The call of the `number`th parcel of what `token` stands for. It may be repeated, by this very function, for a minute and a half."""
        key = self.keys.sent(f"{token}-{number}" if number else token)
        return Call([key], [b"%.3f" % (now_s + CALL_LIFE_S), parcel])


def read(reply: Sequence[bytes]) -> dict[int, BrokerError]:
    """What `enqueue.lua` says, by parcel: the errors of those that were refused as a whole."""
    return {place: refusal(problem.decode(errors="replace")) for place, problem in enumerate(reply) if problem}


def late(error: BrokerError) -> float | None:
    """Redis's time, in epoch seconds, if `error` says that the call came too late (or too early) for it to be carried out.

    Nothing was done: whoever made the call a moment ago doesn't know Redis's clock, and may make it anew with this time.
    """
    found = _LATE.search(str(error))
    return float(found[1]) if found else None
